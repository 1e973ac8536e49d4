import { readFile } from "node:fs/promises";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { credentials } from "@grpc/grpc-js";
import { NarborError, errorMessage } from "../../errors.ts";
import type { GrpcAddress, TlsFiles } from "./grpc-address.ts";

/** @throws NarborError ERR_INVALID when a file cannot be read, or is not what it should be */
export async function channelCredentials({ ca, certificate, key }: TlsFiles, address: GrpcAddress): Promise<ChannelCredentials> {
  const [caPem, keyPem, certificatePem] = await Promise.all([ca, key, certificate].map((file) => readPem(file, address)));
  try {
    return credentials.createSsl(caPem, keyPem, certificatePem);
  } catch (error) {
    throw new NarborError("ERR_INVALID", `Cannot use the certificates of ${address.text}: ${errorMessage(error)}`, { cause: error });
  }
}

async function readPem(file: string | undefined, address: GrpcAddress): Promise<Buffer | null> {
  if (file === undefined) return null;
  return await readFile(file).catch((error: unknown) => {
    throw new NarborError("ERR_INVALID", `Cannot use the address ${address.text}: ${errorMessage(error)}`, { cause: error });
  });
}

/** Our error codes and gRPC's status codes, in one table for both ways. */
import type { ErrorCode } from "../errors.ts";
import { NarborError, isNarborError } from "../errors.ts";

/** gRPC's status codes by name. */
export const RPC_STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** A gRPC status code. */
export type RpcStatusCode = (typeof RPC_STATUS)[keyof typeof RPC_STATUS];

/**
 * Trailer in which a Narbor server says its own error code. A gRPC status alone cannot tell a damaged directory from a digest of the
 * wrong length.
 */
export const ERROR_CODE_TRAILER = "narbor-error-code";

const STATUS_OF_ERROR: Readonly<Record<ErrorCode, RpcStatusCode>> = {
  ERR_NAR_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_IMAGE_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_TAR_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_CASTORE_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_NIX_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_COMPRESSION_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_COMPRESSION_UNSUPPORTED: RPC_STATUS.INVALID_ARGUMENT,
  ERR_MISMATCH: RPC_STATUS.INVALID_ARGUMENT,
  ERR_INVALID: RPC_STATUS.INVALID_ARGUMENT,
  ERR_OUT_OF_RANGE: RPC_STATUS.OUT_OF_RANGE,
  ERR_UNSUPPORTED: RPC_STATUS.UNIMPLEMENTED,
  ERR_LIMIT: RPC_STATUS.RESOURCE_EXHAUSTED,
  ERR_NOT_FOUND: RPC_STATUS.NOT_FOUND,
  ERR_DATA_LOSS: RPC_STATUS.DATA_LOSS,
  ERR_NO_SPACE: RPC_STATUS.RESOURCE_EXHAUSTED,
  ERR_READ_ONLY: RPC_STATUS.FAILED_PRECONDITION,
  ERR_STORE_VERSION: RPC_STATUS.FAILED_PRECONDITION,
  ERR_STORE: RPC_STATUS.INTERNAL,
  ERR_CLOSED: RPC_STATUS.UNAVAILABLE,
  ERR_UNAVAILABLE: RPC_STATUS.UNAVAILABLE,
  ERR_TIMEOUT: RPC_STATUS.DEADLINE_EXCEEDED,
  ERR_FORBIDDEN: RPC_STATUS.PERMISSION_DENIED,
};

/** What a status of a server that says no code of ours means. */
const ERROR_OF_STATUS: Readonly<Partial<Record<number, ErrorCode>>> = {
  [RPC_STATUS.CANCELLED]: "ERR_UNAVAILABLE",
  [RPC_STATUS.INVALID_ARGUMENT]: "ERR_INVALID",
  // Not ERR_TIMEOUT: whoever asks us has not been slow.
  [RPC_STATUS.DEADLINE_EXCEEDED]: "ERR_UNAVAILABLE",
  [RPC_STATUS.NOT_FOUND]: "ERR_NOT_FOUND",
  [RPC_STATUS.PERMISSION_DENIED]: "ERR_FORBIDDEN",
  [RPC_STATUS.UNAUTHENTICATED]: "ERR_FORBIDDEN",
  [RPC_STATUS.RESOURCE_EXHAUSTED]: "ERR_LIMIT",
  [RPC_STATUS.FAILED_PRECONDITION]: "ERR_INVALID",
  [RPC_STATUS.OUT_OF_RANGE]: "ERR_OUT_OF_RANGE",
  [RPC_STATUS.UNIMPLEMENTED]: "ERR_UNSUPPORTED",
  [RPC_STATUS.UNAVAILABLE]: "ERR_UNAVAILABLE",
  [RPC_STATUS.DATA_LOSS]: "ERR_DATA_LOSS",
};

export interface RpcFailure {
  readonly status: RpcStatusCode;
  readonly message: string;
  /** Undefined for what was not thrown on purpose. */
  readonly code: ErrorCode | undefined;
}

/** Long ones do not fit into a header. */
const MESSAGE_LIMIT = 1000;

/** What a caller is told of an error. Of one that is not ours, nothing but that it happened. */
export function toRpcFailure(error: unknown): RpcFailure {
  if (!isNarborError(error)) return { status: RPC_STATUS.INTERNAL, message: "Something went wrong in the server; its log has more", code: undefined };
  // A lone surrogate, which JSON.stringify of a bad name may give, cannot be encoded.
  return { status: STATUS_OF_ERROR[error.code], message: error.message.slice(0, MESSAGE_LIMIT).toWellFormed(), code: error.code };
}

/** The code of an error that another side sent. */
export function fromRpcStatus(status: number, saidCode: string | undefined): ErrorCode {
  if (saidCode !== undefined && Object.hasOwn(STATUS_OF_ERROR, saidCode) && STATUS_OF_ERROR[saidCode as ErrorCode] === status) return saidCode as ErrorCode;
  return ERROR_OF_STATUS[status] ?? "ERR_STORE";
}

/** Turn what failed into an error of ours. */
export function rpcError(status: number, saidCode: string | undefined, message: string, cause?: unknown): NarborError {
  return new NarborError(fromRpcStatus(status, saidCode), message, { cause });
}

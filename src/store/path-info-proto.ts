/** PathInfos as the generated code has them, for gRPC. What they may hold is checked where they are bytes, and only there. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { PathInfo as PathInfoMessage } from "../proto/gen/snix/store/v1/pathinfo_pb.ts";
import { PathInfoSchema } from "../proto/gen/snix/store/v1/pathinfo_pb.ts";
import { decodePathInfo, encodePathInfo } from "./path-info-message.ts";
import type { PathInfo } from "./path-info.ts";

/** As `encodePathInfo`. */
export function pathInfoToProto(pathInfo: PathInfo): PathInfoMessage {
  return fromBinary(PathInfoSchema, encodePathInfo(pathInfo));
}

/** As `decodePathInfo`. */
export function pathInfoFromProto(message: PathInfoMessage): PathInfo {
  return decodePathInfo(toBinary(PathInfoSchema, message));
}

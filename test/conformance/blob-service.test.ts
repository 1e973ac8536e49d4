import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { blobServiceConformance } from "./blob-service.ts";

describe.for(SERVICES)("BlobService: %s", ([, open]) => blobServiceConformance(pick(open, "blobs")));

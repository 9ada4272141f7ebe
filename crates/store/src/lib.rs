//! Objects in buckets: S3, R2, disk and memory, with deadlines, retries and metering.

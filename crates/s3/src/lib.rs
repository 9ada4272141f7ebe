//! The embedded S3 server of a local network.

//! Keys, addresses, signatures and key files.

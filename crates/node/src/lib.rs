//! Miner and validator: state machines without I/O, the drivers that perform their effects, and the journal.

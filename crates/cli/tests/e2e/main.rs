//! The whole program, end to end: real processes on loopback, in paced time.

mod network;
mod training;

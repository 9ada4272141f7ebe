//! Pseudo-gradients as bytes: chunks, top-k, quantiser, index coding, error feedback, aggregation and sealed containers.

//! Text to tokens to shards to the batches assigned to a uid in a window.

//! Array programs: a small static-shape IR, reverse-mode autodiff and the CPU executor.

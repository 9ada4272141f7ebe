//! Llama, loss, optimisers and learning-rate schedules as array programs.

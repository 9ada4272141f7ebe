//! From evaluations to weights: ratings, averages and scores, each with its reason.

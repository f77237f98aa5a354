"""The Composer side: configuration, objects built from it, the mixing algorithm, evaluation."""

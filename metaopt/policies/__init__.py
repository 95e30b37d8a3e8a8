"""What is meta-learned: strengths, schedules and initialisations, and the update rules that they make."""

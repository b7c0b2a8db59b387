"""What `grpo` and `ppo` share: learning from answers that the model writes itself."""

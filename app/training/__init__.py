"""From transactions files to checkpoints and reports. The service never imports this."""

"""What the commands of `quickstudy` do, one file a subject; `app.cli.main` names them."""

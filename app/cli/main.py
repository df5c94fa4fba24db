"""The command `quickstudy`: every command's name, and where it is defined."""

import typer

from app.cli import (
    database,
    demo,
    history,
    inspection,
    keys,
    labels,
    people,
    retraining,
    serve,
    tenants,
    training,
)
from app.cli.terminal import OneSentence
from app.ops import garbage

app = typer.Typer(
    cls=OneSentence,
    help="Fraud scores that learn each account from a handful of labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("inspect")(inspection.inspect)
app.command("import")(history.import_history)
app.command("export")(history.export_history)
app.command("labels")(labels.label_from_file)
app.command("prune")(tenants.prune)
app.command("simulate")(training.simulate)
app.command("partition")(training.partition)
app.command("train")(training.train)
app.command("retrain")(retraining.retrain)
app.command("evaluate")(training.evaluate)
app.command("backtest")(training.backtest)
app.add_typer(keys.commands, name="keys")
app.add_typer(people.commands, name="people")
app.add_typer(tenants.commands, name="tenant")
app.add_typer(database.commands, name="db")

garbage.spare_what_is_imported()

if __name__ == "__main__":
    app()

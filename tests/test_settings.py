"""Settings: what is probably misspelled is pointed out."""

import pytest

from app.settings import Settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("QUICKSTUDY_DATABSE_URL", "QUICKSTUDY_DATABASE_URL"),
        ("QUICKSTUDY_DATABASE", "QUICKSTUDY_DATABASE_URL"),
        ("QUICKSTUDY_MODEL_DIR", "QUICKSTUDY_MODEL"),
        ("QUICKSTUDY_WORKER", "QUICKSTUDY_WORKERS"),
        # Of compose's own file, of Kubernetes, and a setting.
        ("QUICKSTUDY_BACKUP_HOURS", None),
        ("QUICKSTUDY_SERVICE_HOST", None),
        ("QUICKSTUDY_PORT_8000_TCP_ADDR", None),
        ("QUICKSTUDY_DOCS", None),
    ],
)
def test_a_name_that_is_much_like_a_setting_is_pointed_out_once(
    name: str,
    meant: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, "1")
    Settings()
    Settings()
    warnings = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    sentence = f"{name} is ignored: there is no such setting; is {meant} meant?"
    assert warnings == ([sentence] if meant else [])

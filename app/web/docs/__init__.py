"""The page that shows the OpenAPI document in a browser, with every file from this service."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

HERE = Path(__file__).parent
# The package carries Swagger UI's files; they are all that is used of it.
SWAGGER_UI = Path(str(files("fastapi_offline") / "static"))
# Swagger UI has its icons in its style sheet, as data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_docs() -> FileResponse:
    return FileResponse(HERE / "page.html", headers={"Content-Security-Policy": POLICY})


@router.get("/docs/page.js")
async def start_page() -> FileResponse:
    return FileResponse(HERE / "page.js")


@router.get("/docs/swagger-ui.js")
async def send_program() -> FileResponse:
    return FileResponse(SWAGGER_UI / "swagger-ui-bundle.js")


@router.get("/docs/swagger-ui.css")
async def send_styles() -> FileResponse:
    return FileResponse(SWAGGER_UI / "swagger-ui.css")

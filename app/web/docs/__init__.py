"""The OpenAPI document, and the page that shows it in a browser, with every file from this service.

Nobody needs a key for them: what is asked for often is made once.
"""

import asyncio
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from app.ops.background import in_a_thread

HERE = Path(__file__).parent
# The package carries Swagger UI's files; they are all that is used of it.
SWAGGER_UI = Path(str(files("fastapi_offline") / "static"))
# Swagger UI has its icons in its style sheet, as data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def send_document(request: Request) -> Response:
    state = request.app.state
    if not hasattr(state, "document"):
        # Most of a second, for which nobody else waits.
        state.document = asyncio.create_task(in_a_thread(lambda: _document_of(request.app)))
    return Response(await asyncio.shield(state.document), media_type="application/json")


def _document_of(app: FastAPI) -> bytes:
    return bytes(JSONResponse(app.openapi()).body)


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

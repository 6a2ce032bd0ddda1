"""Pictures of a running opsmend: `python tests/e2e/screenshots.py URL OUTDIR` writes now.png and incident.png.

now.png is Now in light; incident.png is the newest incident that has a plan (else the newest) in dark, both at 1280
pixels. Without URL and OUTDIR arguments beyond `--sample OUTDIR` the pictures are of the sample scene; `--all` adds
every page at 400 and 1280 pixels in both themes.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from dashboard_browser import open_browser, serve
from dashboard_scene import scene
from playwright.sync_api import Browser

PAGES = {"now": "/", "incidents": "/incidents", "map": "/map", "runs": "/runs", "policy": "/policy"}


def newest_incident(url: str) -> str:
    """Path of the newest incident that got as far as a plan, else of the newest; "" without any."""
    with httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=20) as client:
        found = client.get("/incidents?limit=50").raise_for_status().json()["incidents"]
        planned = {p["incident_id"] for p in client.get("/plans?limit=200").raise_for_status().json()["plans"]}
    ordered = [*(i for i in found if i["state"] == "open" and i["id"] in planned), *(i for i in found if i["id"] in planned),
               *found]
    return f"/incidents/{ordered[0]['id']}" if ordered else ""


def shoot(browser: Browser, url: str, path: str, to: Path, *, theme: str, width: int, height: int = 900) -> None:
    """One page as a picture, in full length."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url + path)
    page.wait_for_timeout(900)  # charts ask for their series once the page stands
    page.screenshot(path=str(to), full_page=True)
    context.close()


def all_pages(browser: Browser, url: str, directory: Path) -> list[Path]:
    """Every page at 400 and 1280 pixels, light and dark."""
    pages, made = dict(PAGES), []
    if there := newest_incident(url):
        pages["incident"] = there
    for name, path in pages.items():
        for width in (400, 1280):
            for theme in ("light", "dark"):
                made.append(directory / f"{name}-{width}-{theme}.png")
                shoot(browser, url, path, made[-1], theme=theme, width=width)
    return made


@contextlib.contextmanager
def _source(url: str) -> Iterator[str]:
    if url:
        yield url.rstrip("/")
    else:
        with serve(scene()) as sample:
            yield sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("url", nargs="?", default="", help="of a running opsmend; without it, the sample scene")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no chromium: sh .ci/system-packages")
    given.outdir.mkdir(parents=True, exist_ok=True)
    with _source(given.url) as url, open_browser(chromium) as browser:
        shoot(browser, url, "/", given.outdir / "now.png", theme="light", width=1280)
        if path := newest_incident(url):
            shoot(browser, url, path, given.outdir / "incident.png", theme="dark", width=1280)
        else:
            print("there is no incident yet: no incident.png", file=sys.stderr)
        if given.all:
            all_pages(browser, url, given.outdir)


if __name__ == "__main__":
    main()

"""How a report's page looks: one style sheet, with the colours of light and of dark."""

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #57606a;
  --rule: #d8dee4; --panel: #f6f8fa; --worse: #b42318;
  --series-1: #1f6fd1; --series-2: #c2570c; --series-3: #1a7f4b; --series-4: #8250df;
  --series-5: #b3266b; --series-6: #57606a;
  --series-7: #0b7a85; --series-8: #7a6a00; --series-9: #c23b94; --series-10: #7a4a2b;
  --series-11: #4d7c0f; --series-12: #9a5b87; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6e9ed;
  --soft: #9aa4af; --rule: #353d47; --panel: #1c2229; --worse: #ff8f83;
  --series-1: #6aaeff; --series-2: #ff9d5c; --series-3: #56d08d; --series-4: #b898ff;
  --series-5: #ff86b9; --series-6: #9aa4af;
  --series-7: #4fd0dc; --series-8: #d6c64a; --series-9: #ff9be0; --series-10: #d19a78;
  --series-11: #a3d65c; --series-12: #d7a5c8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
.soft, dt, .tile span { color: var(--soft); font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1rem; }
dd { margin: 0; font: .875rem/1.5 ui-monospace, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
.tiles, .curves { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.tile { flex: 1 1 12rem; padding: .75rem 1rem; background: var(--panel); border-radius: .5rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
figure { flex: 1 1 18rem; margin: 0; min-width: 0; }
figure.single { max-width: 34rem; }
svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; }
th { white-space: normal; color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.words td, .words th { text-align: left; }
.note { border-left: 3px solid var(--worse); padding-left: .75rem; }
"""

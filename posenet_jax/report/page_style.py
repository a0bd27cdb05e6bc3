"""The style sheet of the report's page; light, or dark where the reader's system is.

Colours of marks are those of `plots.COLOURS`, so that a mark on the page means what it means in a
plot. Pictures of 100 pixels are drawn at 200 and more (`--picture`), with smooth edges between
pixels: they are photographs, and blocks of pixels would look like detail.
"""

from posenet_jax.report.plots import COLOURS

_MARKS = "\n".join(f".mark{number} {{ --mark: {paint}; }}" for number, paint in enumerate(COLOURS))
STYLE = (
    """
:root { color-scheme: light dark; --picture: 200px;
  --paper: #fff; --ink: #1d1d1f; --soft: #55575c; --line: #d9dadd; --tint: #f4f5f7;
  --link: #0b57a4; --edge: 1rem; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181b; --ink: #e9e9ec; --soft: #b1b3b9; --line: #3d3f45; --tint: #212328;
    --link: #8ebcf0; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: var(--edge); max-width: 92rem; background: var(--paper);
  color: var(--ink); font: 17px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { line-height: 1.15; margin: 0.5rem 0; font-size: 2.2rem; }
h2 { margin: 3rem 0 0.5rem; padding-top: 0.6rem; border-top: 2px solid var(--line);
  font-size: 1.6rem; line-height: 1.25; }
h3 { margin: 1.4rem 0 0.4rem; font-size: 1.15rem; line-height: 1.3; }
p { max-width: 48rem; margin: 0.6rem 0; }
a { color: var(--link); }
nav ul { padding-left: 1.2rem; margin: 0.6rem 0; }
nav.story ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.6rem; list-style: none; padding: 0; }
nav.details ul { columns: 18rem; }
.lead { font-size: 1.15rem; }
figure { margin: 1.2rem 0; min-width: 0; }
figcaption { max-width: 60rem; color: var(--soft); font-size: 0.9rem; padding: 0.4rem 0; }
img { display: block; max-width: 100%; height: auto; image-rendering: auto; }
.plot img { background: #fff; border-radius: 4px; }
.scroll { overflow-x: auto; }
.columns { display: grid; gap: 0 2.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.columns > * { min-width: 0; }

.example { margin: 0.8rem 0 1.4rem; }
.example > p { margin: 0 0 0.3rem; font-weight: 600; }
.tiles { display: grid; gap: 0.6rem 4px;
  grid-template-columns: repeat(auto-fill, minmax(var(--picture), 1fr)); }
.tiles.few { max-width: calc(var(--of) * 15.5rem); }
@media (min-width: 80rem) {
  .tiles.few { grid-template-columns: repeat(var(--of), minmax(var(--picture), 15.5rem)); }
}
.examples { display: flex; flex-wrap: wrap; gap: 0 1.6rem; }
.examples > .example { flex: 1 1 calc(var(--of) * var(--picture)); min-width: 0; max-width: 100%; }
.tile img { width: 100%; }
.tile span { display: block; font-size: 0.85rem; line-height: 1.3; padding: 0.1rem 0.1rem 0; }
.tile .value { color: var(--soft); font-variant-numeric: tabular-nums; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; color: var(--link); font-weight: 600; }

.cards { display: grid; gap: 1rem; list-style: none; padding: 0; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.cards > li { background: var(--tint); border-radius: 8px; padding: 0.9rem 1.1rem; }
.cards h4 { font-size: 1.1rem; line-height: 1.3; margin: 0 0 0.3rem; }
.cards p { margin: 0.3rem 0; font-size: 0.95rem; }
.marks { margin: 0.7rem 0 0; font-size: 0.85rem; }
.marks div { display: grid; grid-template-columns: 7.4rem 1fr 9.6rem; gap: 0.6rem;
  align-items: center; padding: 0.1rem 0; }
.marks dd { margin: 0; font-variant-numeric: tabular-nums; }
.marks .track { position: relative; height: 1rem; border-bottom: 1px solid var(--line); }
.track i { position: absolute; bottom: 0.38rem; height: 3px; background: var(--mark);
  opacity: 0.55; min-width: 1px; }
.track b { position: absolute; bottom: 0.1rem; width: 0.7rem; height: 0.7rem; margin-left: -0.35rem;
  background: var(--mark); }
.mark0 b { border-radius: 50%; }
.mark2 b { clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.marks .chance { position: absolute; top: 0; bottom: -1px; width: 0; margin: 0;
  border-left: 1px dashed var(--soft); }
.measure { color: var(--soft); }

table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { border-bottom-color: var(--soft); }
pre { overflow-x: auto; padding: 0.6rem; background: var(--tint); font-size: 0.85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 45rem) {
  :root { --edge: 0.75rem; }
  body { font-size: 16px; }
  h1 { font-size: 1.6rem; }
  h2 { font-size: 1.35rem; }
  /* Two pictures side by side need the whole width of a telephone. */
  .tiles { margin: 0 calc(-1 * var(--edge)); column-gap: 0;
    grid-template-columns: repeat(auto-fill, minmax(min(var(--picture), 50%), 1fr)); }
  .marks div { grid-template-columns: 6.4rem 1fr; gap: 0 0.5rem; }
  .marks .number { grid-column: 2; }
}
"""
    + _MARKS
    + "\n"
)

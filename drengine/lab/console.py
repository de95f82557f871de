"""A page on loopback that shows the lab: estate, clock, requests, databases.

It only reads. It is served as plain HTTP on a port of its own, because a browser knows
neither the lab's proxy nor its authority; requests that name another host than this
machine are refused, so that no page from elsewhere can read it.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.arm_subscription import ESTATE, META
from drengine.lab.hsm import regions
from drengine.lab.hsm.state import HSM
from drengine.lab.sql import state as sql

if TYPE_CHECKING:
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

LAST_CALLS: Final = 40
_NAMES: Final = frozenset({"127.0.0.1", "localhost"})


def start(lab: Lab) -> int:
    """Serve the page in the background and return its port."""

    class Handler(_Handler):
        world = lab

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="console", daemon=True).start()
    return int(server.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    world: Lab

    def do_GET(self) -> None:
        """Answer the page or its state."""
        name = self.headers.get("host", "").partition(":")[0]
        if name not in _NAMES:
            self._answer(403, "text/plain", b"only this machine\n")
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE.encode())
        elif self.path == "/state.json":
            body = json.dumps(snapshot(self.world)).encode()
            self._answer(200, "application/json", body)
        else:
            self._answer(404, "text/plain", b"not here\n")

    def log_message(self, *_: object) -> None:
        """Keep the page's own requests out of the server's log."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for header, value in (
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("content-security-policy", _POLICY),
            ("x-drengine-lab", "1"),
        ):
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)


def snapshot(lab: Lab) -> dict[str, Any]:
    """Return what the page shows."""
    with lab.store.transaction() as tx:
        meta = tx.get(META, ESTATE) or {}
        return {
            "now_ms": lab.clock.now_ms(),
            "speed": lab.clock.speed,
            "resource_group": meta.get("resource_group"),
            "lost": [region for region, _ in tx.find(regions.OUTAGE)],
            "hsms": [
                {
                    "name": one["display_name"],
                    "regions": regions.regions_of(one),
                    "phase": one["phase"],
                    "busy": (one.get("busy") or "").partition("/")[0],
                }
                for _, one in tx.find(HSM)
                if "display_name" in one
            ],
            "instances": [_instance(tx, key, doc) for key, doc in tx.find(sql.INSTANCES)],
            "faults": [one for one in lab.faults.rules() if not _is_spent(one)],
            "calls": tx.last_calls(LAST_CALLS),
        }


def _is_spent(rule: dict[str, Any]) -> bool:
    return bool(rule["count"]) and rule["hit"] >= rule["count"]


def _instance(tx: Tx, key: str, doc: dict[str, Any]) -> dict[str, Any]:
    linked = sql.protector_key(tx, key, doc)
    return {
        "name": doc["name"],
        "location": doc["location"],
        "role": sql.role_of(tx, key, doc),
        "protector": linked["uri"] if linked else "service-managed",
        "databases": [
            {
                "name": row["name"],
                "status": row["status"],
                "why": (row["inaccessible"] or {}).get("code", ""),
            }
            for _, row in sql.databases(tx, key)
        ],
    }


_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>drengine lab</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c2330}
header{background:#7a1f1f;color:#fff;padding:.6rem 1.2rem;display:flex;gap:2rem;
align-items:baseline;flex-wrap:wrap}
header b{font-size:1.2rem;letter-spacing:.08em}
main{padding:1rem 1.2rem;display:grid;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(22rem,1fr))}
section{background:#fff;border:1px solid #dde1e7;border-radius:6px;padding:.8rem 1rem;min-width:0}
h2{font-size:.95rem;margin:0 0 .5rem}h3{font-size:.9rem;margin:.7rem 0 .2rem}
.wide{grid-column:1/-1}.muted{color:#5d6675}.db{display:inline-block;margin:.15rem .3rem .15rem 0;
padding:.1rem .5rem;border-radius:4px;background:#e8edf3}
.Online{background:#d7f0dc;color:#0b5123}
.Inaccessible{background:#f8d3d3;color:#7c1010;font-weight:600}
table{border-collapse:collapse;width:100%;font:12px/1.5 ui-monospace,monospace}
td{padding:.05rem .6rem .05rem 0;white-space:nowrap;overflow:hidden;
text-overflow:ellipsis;max-width:44rem}
.bad{color:#a01313}.good{color:#0b6b2b}
</style></head><body>
<header><b>LAB</b><span id="clock"></span><span id="where"></span><span id="lost"></span></header>
<main><section><h2>HSMs</h2><div id="hsms"></div></section>
<section><h2>Faults</h2><div id="faults"></div></section>
<section class="wide"><h2>Instances and databases</h2><div id="instances"></div></section>
<section class="wide"><h2>Requests, the latest first</h2><table id="calls"></table></section></main>
<script>
const $=id=>document.getElementById(id);
const put=(parent,tag,text,name)=>{const e=document.createElement(tag);e.textContent=text;
if(name)e.className=name;parent.append(e);return e};
function show(s){
 $('clock').textContent=new Date(s.now_ms).toISOString().slice(0,19)+'Z, '+s.speed+
 ' virtual seconds a second';
 $('where').textContent='group '+s.resource_group;
 $('lost').textContent=s.lost.length?'LOST: '+s.lost.join(', '):'';
 for(const id of ['hsms','faults','instances','calls'])$(id).replaceChildren();
 if(!s.hsms.length)put($('hsms'),'div','none','muted');
 for(const h of s.hsms){const p=put($('hsms'),'div',h.name+' ');
  put(p,'span',h.phase+(h.busy?', '+h.busy:''),h.phase==='active'?'good':'bad');
  put(p,'span',' in '+h.regions.join(', '),'muted')}
 if(!s.faults.length)put($('faults'),'div','none','muted');
 for(const f of s.faults)put($('faults'),'div',f.kind+' '+f.method+' '+f.path+': '+f.hit+' of '+
 (f.count||'all'));
 for(const i of s.instances){put($('instances'),'h3',i.name+' ('+i.role+', '+i.location+')');
  put($('instances'),'div',i.protector,'muted');
  for(const d of i.databases)put($('instances'),'span',d.name+(d.why?': '+d.why:''),'db '+d.status)}
 for(const c of s.calls){const r=put($('calls'),'tr','');
  put(r,'td',new Date(c.virtual_ms).toISOString().slice(11,19));put(r,'td',c.method);
  put(r,'td',c.status||'',c.status>=400?'bad':'good');put(r,'td',c.host+c.path);
  put(r,'td',c.effect||'')}
}
async function turn(){try{show(await (await fetch('/state.json')).json())}
catch(e){$('clock').textContent='the lab does not answer'}setTimeout(turn,1000)}
turn();
</script></body></html>
"""

// Package node is the agent of one machine: it asks which modules the machine
// should run, fetches and verifies them, swaps them behind its own reverse proxy
// without failing a request, and reports what it sees.
//
// Nothing dials in. An order is obeyed only if it is newer than the newest one
// that the state folder holds, and is written there before it is acted upon. One
// agent obeys per state folder: the holder of its lock. A second agent takes the
// lock, the listeners and the places over from the first (handover.go), so that an
// agent is replaced under load.
//
//	Agent ── client     asks for orders, sends reports         (client.go)
//	  │  └── store      state.json, the newest orders          (state.go)
//	  └─ place          makes itself equal to its order        (place.go)
//	      ├─ proxy      listener, counts, one atomic switch    (proxy.go)
//	      └─ instance   fetch, unpack, start, health, restart  (instance.go)
//
// It needs Linux: process groups, Pdeathsig, pidfd, /proc.
package node

package crash_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

// An obeyed order, as the ledger of an agent keeps it.
type obeyed struct {
	Position        target.Position
	Active, Standby string // versions; empty: none
}

// An agent plays a node with one place: the real protocol, a persisted
// position, and a ledger of every order that it obeyed.
type agent struct {
	name    string
	key     ed25519.PrivateKey
	misdeed func(*target.PlaceReport) // what goes wrong on this node; nil: nothing

	mu       sync.Mutex
	place    target.Place
	position target.Position
	active   *target.Instance
	standby  *target.Instance
	boot     int64
	seq      int64
	requests int64
	unsent   *target.Report // repeated, byte for byte, until it is answered
	quiet    bool           // the last report says it all, and the last question was answered
	ledger   []obeyed
}

// newAgent returns an agent whose key is derived from its name.
func newAgent(name string) *agent {
	seed := bytes.Repeat([]byte(name), ed25519.SeedSize)[:ed25519.SeedSize]
	return &agent{name: name, key: ed25519.NewKeyFromSeed(seed), boot: 1}
}

// again returns an agent with the persisted state of g and an empty ledger.
func (g *agent) again() *agent {
	return &agent{
		name: g.name, key: g.key, place: g.place, position: g.position, active: g.active, standby: g.standby,
		boot: g.boot, seq: g.seq, requests: g.requests,
	}
}

// ask asks for orders newer than what is known, and obeys them. While there
// are none, newest says, the question that was asked last is held back by the
// long poll, and it is not asked again.
func (g *agent) ask(ctx context.Context, c *http.Client, base string, newest int64) error {
	g.mu.Lock()
	if g.quiet && newest <= g.position.Generation {
		g.mu.Unlock()
		return nil
	}
	q := target.WantedRequest{}
	if g.position != (target.Position{}) {
		q.Known = []target.Known{{Place: g.place, Position: g.position}}
	}
	g.mu.Unlock()
	var w target.Wanted
	if err := g.post(ctx, c, base+"/v1/nodes/self/wanted", q, &w); err != nil {
		return fmt.Errorf("%s asks: %w", g.name, err)
	}
	for _, o := range w.Orders {
		g.obey(o)
	}
	return nil
}

// obey persists an order and carries it out, if it is newer than the newest one.
func (g *agent) obey(o target.Order) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !o.Position.Newer(g.position) {
		return
	}
	g.place, g.position, g.active, g.standby = o.Place, o.Position, o.Active, o.Standby
	g.quiet = false
	g.ledger = append(g.ledger, obeyed{Position: o.Position, Active: version(o.Active), Standby: version(o.Standby)})
}

// speak makes the next question and the next report due, as the agent's
// intervals do.
func (g *agent) speak() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.quiet = false
}

// report says what is there, if there is news or the time has come. What was
// not answered is sent again first.
func (g *agent) report(ctx context.Context, c *http.Client, base string) error {
	g.mu.Lock()
	if g.quiet && g.unsent == nil {
		g.mu.Unlock()
		return nil
	}
	if g.unsent == nil {
		g.seq++
		g.quiet = true
		g.unsent = &target.Report{Boot: g.boot, Seq: g.seq, At: time.Now(), Agent: "scripted", Places: g.see()}
	}
	r := *g.unsent
	g.mu.Unlock()
	if err := g.post(ctx, c, base+"/v1/nodes/self/report", r, nil); err != nil {
		return fmt.Errorf("%s reports: %w", g.name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unsent != nil && g.unsent.Seq == r.Seq {
		g.unsent = nil
	}
	return nil
}

func (g *agent) see() []target.PlaceReport {
	if g.position == (target.Position{}) {
		return []target.PlaceReport{}
	}
	r := target.PlaceReport{Place: g.place, Position: g.position, Active: healthy(g.active), Standby: healthy(g.standby)}
	if g.misdeed != nil {
		g.misdeed(&r)
	}
	return []target.PlaceReport{r}
}

// post sends a signed request and decodes the answer, if out is not nil.
func (g *agent) post(ctx context.Context, c *http.Client, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.requests++
	id := strconv.FormatInt(g.requests, 10)
	g.mu.Unlock()
	if err := auth.SignRequest(req, body, store.NodeID(tenant, g.name), g.key, id, time.Now()); err != nil {
		return err
	}
	return send(c, req, out)
}

// send carries out a request; an answer that is not a success is an error.
func send(c *http.Client, req *http.Request, out any) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answered %d %s", resp.StatusCode, bytes.TrimSpace(body))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

func version(i *target.Instance) string {
	if i == nil {
		return ""
	}
	return i.Module.Version
}

func healthy(i *target.Instance) *target.InstanceReport {
	if i == nil {
		return nil
	}
	return &target.InstanceReport{Digest: i.Digest, Version: i.Module.Version, Phase: target.Healthy}
}

// A delivery is sent by the forge until somebody answers that it was accepted.
type delivery struct {
	id  string
	mu  sync.Mutex
	got bool // a 2xx was seen
}

func (d *delivery) accepted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.got
}

// deliver sends the delivery, with the same id each time.
func (d *delivery) send(ctx context.Context, c *http.Client, url string) error {
	if d.accepted() {
		return nil
	}
	req, err := pushRequest(ctx, url, d.id)
	if err != nil {
		return err
	}
	if err := send(c, req, nil); err != nil {
		return fmt.Errorf("forge delivers: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = true
	return nil
}

// Package nodetest plays the server's role for tests of node agents: it verifies
// what agents sign, holds their polls, hands out orders and keeps their reports.
package nodetest

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/target"
)

// Prefix is the path that the server is mounted under, as a function host would.
const Prefix = "/function/nodes"

// Token is the join token that the server takes, from any number of nodes.
const Token = "join-me"

// A Server is a running server. Use [Start] and [Server.Close].
type Server struct {
	URL string // with [Prefix]

	http *httptest.Server

	mu      sync.Mutex
	changed chan struct{} // closed and replaced on every change
	nodes   map[string]*node
	joins   int
	refused []string // requests that were refused, with the reason
	secrets map[string]string
}

type node struct {
	key     ed25519.PublicKey
	orders  map[target.Place]target.Order
	reports []target.Report
}

// Start listens on a port of its own.
func Start() *Server {
	s := &Server{changed: make(chan struct{}), nodes: map[string]*node{}, secrets: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/nodes/join", s.join)
	mux.HandleFunc("POST /v1/nodes/self/wanted", s.wanted)
	mux.HandleFunc("POST /v1/nodes/self/report", s.report)
	mux.HandleFunc("POST /v1/nodes/self/secrets", s.giveSecrets)
	s.http = httptest.NewServer(http.StripPrefix(Prefix, mux))
	s.URL = s.http.URL + Prefix
	return s
}

// Close ends the server and every poll that it holds.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Secret sets what every node gets for a name.
func (s *Server) Secret(name, value string) { s.change(func() { s.secrets[name] = value }) }

func (s *Server) giveSecrets(w http.ResponseWriter, r *http.Request) {
	var asked target.SecretsRequest
	if _, ok := s.read(w, r, &asked); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := target.Secrets{Values: map[string][]byte{}}
	for _, name := range asked.Names {
		value, ok := s.secrets[name]
		if !ok {
			http.Error(w, "secret "+name+" is not there", http.StatusNotFound)
			return
		}
		out.Values[name] = []byte(value)
	}
	_ = json.NewEncoder(w).Encode(out)
}

// Order gives node an order. Older orders of the same place are forgotten.
func (s *Server) Order(node string, o target.Order) {
	s.change(func() { s.node(node).orders[o.Place] = o })
}

// Latest returns node's last report, and false while there is none.
func (s *Server) Latest(node string) (target.Report, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.node(node).reports
	if len(all) == 0 {
		return target.Report{}, false
	}
	return all[len(all)-1], true
}

// Reports returns all reports of node, in the order they came in.
func (s *Server) Reports(node string) []target.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.node(node).reports)
}

// Joins returns how many joins were answered.
func (s *Server) Joins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joins
}

// Refused returns the requests that were refused, with the reasons.
func (s *Server) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

// Await returns the first report about place, from now on, that ok accepts.
func (s *Server) Await(ctx context.Context, node string, place target.Place, ok func(target.PlaceReport) bool) (target.PlaceReport, error) {
	var last target.PlaceReport
	for {
		s.mu.Lock()
		changed := s.changed
		if all := s.node(node).reports; len(all) > 0 {
			for _, p := range all[len(all)-1].Places {
				if p.Place == place {
					last = p
				}
			}
		}
		s.mu.Unlock()
		if last.Place == place && ok(last) {
			return last, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			text, _ := json.Marshal(last)
			return last, fmt.Errorf("await report: %w; the last one is %s", ctx.Err(), text)
		}
	}
}

func (s *Server) node(id string) *node {
	if s.nodes[id] == nil {
		s.nodes[id] = &node{orders: map[target.Place]target.Order{}}
	}
	return s.nodes[id]
}

func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	s.change(func() { s.refused = append(s.refused, r.URL.Path+": "+why) })
	http.Error(w, why, status)
}

// join gives every node the id "id-of-" and its name.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	var j target.Join
	if err := json.NewDecoder(r.Body).Decode(&j); err != nil {
		s.refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	key, err := base64.StdEncoding.DecodeString(j.PublicKey)
	if err != nil || j.Token != Token {
		s.refuse(w, r, http.StatusForbidden, "token or key")
		return
	}
	id := "id-of-" + j.Name
	s.change(func() { s.joins++; s.node(id).key = key })
	_ = json.NewEncoder(w).Encode(target.Joined{Node: id, Tenant: "shop", Labels: j.Labels})
}

// read verifies and decodes a signed request, and returns the id of its node.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) (string, bool) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = auth.VerifyRequest(r, body, func(id string) (ed25519.PublicKey, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.node(id).key, nil
		}, time.Now())
	}
	if err != nil {
		s.refuse(w, r, http.StatusUnauthorized, err.Error())
		return "", false
	}
	if err := json.NewDecoder(strings.NewReader(string(body))).Decode(into); err != nil {
		s.refuse(w, r, http.StatusBadRequest, err.Error())
		return "", false
	}
	return r.Header.Get(auth.HeaderKey), true
}

func (s *Server) wanted(w http.ResponseWriter, r *http.Request) {
	var asked target.WantedRequest
	id, ok := s.read(w, r, &asked)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), asked.Wait)
	defer cancel()
	known := map[target.Place]target.Position{}
	for _, k := range asked.Known {
		known[k.Place] = k.Position
	}
	for {
		s.mu.Lock()
		changed := s.changed
		out := target.Wanted{Orders: []target.Order{}}
		for place, o := range s.node(id).orders {
			if o.Position.Newer(known[place]) {
				out.Orders = append(out.Orders, o)
			}
		}
		s.mu.Unlock()
		if len(out.Orders) > 0 || ctx.Err() != nil {
			_ = json.NewEncoder(w).Encode(out)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	var report target.Report
	id, ok := s.read(w, r, &report)
	if !ok {
		return
	}
	s.change(func() { s.node(id).reports = append(s.node(id).reports, report) })
	w.WriteHeader(http.StatusNoContent)
}

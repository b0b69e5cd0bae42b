package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// ErrState means that the state file cannot be understood. The agent does not
// start then: with an empty state it would obey orders that it must not obey.
var ErrState = errors.New("state file is damaged")

const (
	stateFile    = "state.json"
	stateVersion = 1
	maxStateSize = 16 << 20
)

// state is everything that an agent must know after a crash. ID is random, made
// with the folder, and marks the processes that were started from it.
type state struct {
	Version int               `json:"version"`
	ID      string            `json:"id"`
	Node    string            `json:"node,omitempty"` // empty until joined
	Tenant  string            `json:"tenant,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Places  []placeState      `json:"places,omitempty"`
}

// placeState is what one place was told last and what it does. Position may be
// newer than Order's if the newest order was refused; Refused then says why.
type placeState struct {
	Place    target.Place     `json:"place"`
	Position target.Position  `json:"position"`
	Order    target.Order     `json:"order"`
	Received time.Time        `json:"received,omitzero"` // when the order came
	Refused  string           `json:"refused,omitempty"`
	Serving  *target.Instance `json:"serving,omitempty"` // takes the traffic, or should after a crash
	Port     int              `json:"port,omitempty"`    // that the node chose for the proxy
}

// decodeState reads a state file, or returns [ErrState].
func decodeState(raw []byte) (state, error) {
	var s state
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	if s.Version != stateVersion {
		return state{}, fmt.Errorf("%w: it has version %d, this agent reads %d", ErrState, s.Version, stateVersion)
	}
	if len(s.ID) != 32 || strings.Trim(s.ID, "0123456789abcdef") != "" {
		return state{}, fmt.Errorf("%w: its id is not 32 hex digits", ErrState)
	}
	seen := map[target.Place]bool{}
	for _, p := range s.Places {
		if seen[p.Place] {
			return state{}, fmt.Errorf("%w: two entries for %s", ErrState, placeName(p.Place))
		}
		seen[p.Place] = true
		if err := p.check(); err != nil {
			return state{}, fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return s, nil
}

func (p placeState) check() error {
	if err := checkPlace(p.Place); err != nil {
		return err
	}
	if p.Order.Place != (target.Place{}) {
		if p.Order.Place != p.Place {
			return fmt.Errorf("%s holds an order for another place", placeName(p.Place))
		}
		if err := checkOrder(p.Order); err != nil {
			return err
		}
	}
	if p.Order.Position.Newer(p.Position) || p.Port < 0 || p.Port > 65535 {
		return fmt.Errorf("%s: impossible position or port", placeName(p.Place))
	}
	if p.Serving != nil {
		return checkInstance(*p.Serving)
	}
	return nil
}

// A store keeps the state in memory and on disk alike. Its file is replaced
// whole, so that a reader sees one state or the next.
type store struct {
	folder string

	mu sync.Mutex
	s  state
}

// openStore reads the state of folder, or makes a new one there.
func openStore(folder string) (*store, error) {
	raw, err := readFile(filepath.Join(folder, stateFile), maxStateSize)
	if errors.Is(err, fs.ErrNotExist) {
		id, err := randomID()
		if err != nil {
			return nil, err
		}
		st := &store{folder: folder}
		return st, st.update(func(s *state) { *s = state{Version: stateVersion, ID: id} })
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	s, err := decodeState(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(folder, stateFile), err)
	}
	return &store{folder: folder, s: s}, nil
}

// get returns a copy whose lists may be changed freely; what they point to may not.
func (st *store) get() state {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	s.Places = slices.Clone(s.Places)
	return s
}

// update changes the state on disk first and in memory only if that went well.
func (st *store) update(change func(*state)) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	s.Places = slices.Clone(s.Places)
	change(&s)
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := writeFile(filepath.Join(st.folder, stateFile), raw); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	st.s = s
	return nil
}

// place changes the entry of one place, which is made if it is not there.
func (st *store) place(p target.Place, change func(*placeState)) error {
	return st.update(func(s *state) { change(s.placeOf(p)) })
}

func (s *state) placeOf(p target.Place) *placeState {
	i := slices.IndexFunc(s.Places, func(e placeState) bool { return e.Place == p })
	if i < 0 {
		i = len(s.Places)
		s.Places = append(s.Places, placeState{Place: p})
	}
	return &s.Places[i]
}

func placeName(p target.Place) string { return p.Environment + "/" + p.Deployment }

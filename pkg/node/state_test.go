package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

var testPlace = target.Place{Environment: "production", Deployment: "checkout"}

func digestFor(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

func someInstance() *target.Instance {
	return &target.Instance{
		Digest: digestFor("1"), Release: "r1",
		Module: target.Module{Name: "checkout", Version: "1.5.0", Artifact: "file:///a", Digest: digestFor("2")},
	}
}

func TestTheStateComesBackAsItWasStored(t *testing.T) {
	folder := t.TempDir()
	st, err := openStore(folder)
	require.NoError(t, err)
	require.NoError(t, st.place(testPlace, func(e *placeState) {
		e.Position = target.Position{Epoch: 1, Token: 2, Generation: 3}
		e.Order = target.Order{Place: testPlace, Position: e.Position, Active: someInstance()}
		e.Serving, e.Port = someInstance(), 20_001
	}))
	again, err := openStore(folder)
	require.NoError(t, err)
	require.Equal(t, st.get(), again.get())
	info, err := os.Stat(filepath.Join(folder, stateFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestAStateThatCannotBeWrittenIsNotBelieved(t *testing.T) {
	st, err := openStore(t.TempDir())
	require.NoError(t, err)
	before := st.get()
	st.folder = filepath.Join(st.folder, "gone")
	require.Error(t, st.update(func(s *state) { s.Node = "n" }))
	require.Equal(t, before, st.get())
}

func TestADamagedStateStopsTheAgentInsteadOfStartingAnew(t *testing.T) {
	id := strings.Repeat("a", 32)
	for name, text := range map[string]string{
		"empty":                 "",
		"cut short":             `{"version":1,"id":"` + id,
		"a newer version":       `{"version":2,"id":"` + id + `"}`,
		"no id":                 `{"version":1}`,
		"a field nobody knows":  `{"version":1,"id":"` + id + `","x":1}`,
		"two of one place":      `{"version":1,"id":"` + id + `","places":[{"place":{"environment":"a","deployment":"b"}},{"place":{"environment":"a","deployment":"b"}}]}`,
		"a place with a slash":  `{"version":1,"id":"` + id + `","places":[{"place":{"environment":"../a","deployment":"b"}}]}`,
		"an order from nowhere": `{"version":1,"id":"` + id + `","places":[{"place":{"environment":"a","deployment":"b"},"order":{"place":{"environment":"a","deployment":"c"}}}]}`,
		"an order that is newer than the newest": `{"version":1,"id":"` + id +
			`","places":[{"place":{"environment":"a","deployment":"b"},"order":{"place":{"environment":"a","deployment":"b"},"position":{"epoch":1}}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(folder, stateFile), []byte(text), 0o600))
			_, err := openStore(folder)
			require.ErrorIs(t, err, ErrState)
			require.ErrorContains(t, err, stateFile)
		})
	}
}

func FuzzDecodeState(f *testing.F) {
	good, err := json.Marshal(state{Version: 1, ID: strings.Repeat("a", 32), Places: []placeState{{Place: testPlace, Serving: someInstance()}}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := decodeState(raw)
		if err != nil {
			require.ErrorIs(t, err, ErrState)
			return
		}
		text, err := json.Marshal(s)
		require.NoError(t, err)
		again, err := decodeState(text)
		require.NoError(t, err)
		text2, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(text), string(text2))
	})
}

package node

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func orderAt(token, generation int64) target.Order {
	return target.Order{Place: testPlace, Position: target.Position{Epoch: 1, Token: token, Generation: generation}}
}

// quietAgent stores orders but starts nothing.
func quietAgent(t *testing.T) *Agent {
	t.Helper()
	a, err := New(Options{Server: "http://127.0.0.1:1", Name: "node-1", State: t.TempDir(), AllowUnsigned: true})
	require.NoError(t, err)
	a.st, err = openStore(a.o.State)
	require.NoError(t, err)
	a.m = &machine{o: a.o, log: a.log}
	return a
}

func TestAnOrderIsObeyedOnlyIfItIsNewerThanTheNewest(t *testing.T) {
	a := quietAgent(t)
	for _, step := range []struct {
		name   string
		orders []target.Order
		taken  int
		newest target.Position
	}{
		{"the first", []target.Order{orderAt(2, 5)}, 1, orderAt(2, 5).Position},
		{"the same again", []target.Order{orderAt(2, 5)}, 0, orderAt(2, 5).Position},
		{"an older generation", []target.Order{orderAt(2, 4)}, 0, orderAt(2, 5).Position},
		{"an older token with a newer generation", []target.Order{orderAt(1, 9)}, 0, orderAt(2, 5).Position},
		{"a newer token with an older generation", []target.Order{orderAt(3, 1)}, 1, orderAt(3, 1).Position},
		{"several at once, newest first", []target.Order{orderAt(3, 9), orderAt(3, 8)}, 1, orderAt(3, 9).Position},
		{"an older epoch", []target.Order{{Place: testPlace, Position: target.Position{Token: 99}}}, 0, orderAt(3, 9).Position},
	} {
		taken, err := a.take(step.orders)
		require.NoError(t, err, step.name)
		require.Equal(t, step.taken, taken, step.name)
		require.Equal(t, step.newest, a.st.get().Places[0].Position, step.name)
		stored, err := openStore(a.o.State)
		require.NoError(t, err)
		require.Equal(t, step.newest, stored.get().Places[0].Position, "on the disk: %s", step.name)
	}
}

func TestAnOrderThatCannotBeStoredIsNotObeyed(t *testing.T) {
	a := quietAgent(t)
	a.st.folder = filepath.Join(a.st.folder, "gone")
	_, err := a.take([]target.Order{orderAt(1, 1)})
	require.Error(t, err)
	require.Empty(t, a.places, "no place was woken")
	require.Empty(t, a.st.get().Places)
}

func TestAnOrderThatCannotBeObeyedMovesThePositionAndLeavesTheOrder(t *testing.T) {
	a := quietAgent(t)
	good, bad := orderAt(1, 1), orderAt(1, 2)
	good.Active, bad.Active = someInstance(), someInstance()
	bad.Active.Module.Name = "../evil"
	for _, o := range []target.Order{good, bad} {
		_, err := a.take([]target.Order{o})
		require.NoError(t, err)
	}
	entry := a.st.get().Places[0]
	require.Equal(t, bad.Position, entry.Position)
	require.Equal(t, good, entry.Order)
	require.Contains(t, entry.Refused, "name is not a DNS label")
}

func TestAReportNeverAnswersAnOrderWithWhatWasTrueUnderTheOneBefore(t *testing.T) {
	a := quietAgent(t)
	bad, good := orderAt(1, 1), orderAt(1, 2)
	bad.Active = someInstance()
	bad.Active.Module.Name = "../evil"
	for _, o := range []target.Order{bad, good} {
		_, err := a.take([]target.Order{o})
		require.NoError(t, err)
		p := a.place(o.Place)
		early, _ := p.report()
		require.NotEqual(t, o.Position, early.Position, "the place has not looked at it yet")
		p.reconcile()
		report, _ := p.report()
		require.Equal(t, o.Position, report.Position)
		require.Equal(t, o.Active == nil, report.Refused == "", report.Refused)
	}
}

func TestOrdersThatCouldReachAPathOrACommandLineAreRefused(t *testing.T) {
	cases := map[string]func(o *target.Order){
		"a deployment with a slash":       func(o *target.Order) { o.Place.Deployment = "a/b" },
		"no environment":                  func(o *target.Order) { o.Place.Environment = "" },
		"a negative position":             func(o *target.Order) { o.Position.Token = -1 },
		"a module name with a slash":      func(o *target.Order) { o.Active.Module.Name = "a/b" },
		"a module digest that is a path":  func(o *target.Order) { o.Active.Module.Digest = "sha256:../../x" },
		"an instance digest of no form":   func(o *target.Order) { o.Active.Digest = "x" },
		"a version with a line feed":      func(o *target.Order) { o.Active.Module.Version = "1\n2" },
		"no version":                      func(o *target.Order) { o.Active.Module.Version = "" },
		"a negative size":                 func(o *target.Order) { o.Active.Module.Size = -1 },
		"a port that does not exist":      func(o *target.Order) { o.Active.Config.Port = 70_000 },
		"a negative drain":                func(o *target.Order) { o.Active.Config.Drain = -1 },
		"a start that takes days":         func(o *target.Order) { o.Active.Config.StartWithin = 48 * time.Hour },
		"a health path that is a host":    func(o *target.Order) { o.Active.Config.HealthPath = "@evil/" },
		"a health path with a line feed":  func(o *target.Order) { o.Active.Config.HealthPath = "/\r\nX: y" },
		"an argument with a zero byte":    func(o *target.Order) { o.Active.Config.Args = []string{"a\x00b"} },
		"a variable with an equals sign":  func(o *target.Order) { o.Active.Config.Env = map[string]string{"A=B": "c"} },
		"a variable that the agent sets":  func(o *target.Order) { o.Active.Config.Env = map[string]string{"PORT": "1"} },
		"a marker of somebody else":       func(o *target.Order) { o.Active.Config.Env = map[string]string{"HOTSWAP_INSTANCE": "1"} },
		"arguments larger than allowed":   func(o *target.Order) { o.Active.Config.Args = []string{strings.Repeat("a", 200<<10)} },
		"a standby that is not like that": func(o *target.Order) { o.Standby = &target.Instance{} },
	}
	good := orderAt(1, 1)
	good.Active = someInstance()
	require.NoError(t, checkOrder(good))
	for name, change := range cases {
		o := orderAt(1, 1)
		o.Active = someInstance()
		change(&o)
		require.ErrorIs(t, checkOrder(o), errOrder, name)
	}
}

func FuzzDecodeWanted(f *testing.F) {
	o := orderAt(1, 1)
	o.Active = someInstance()
	good, err := json.Marshal(target.Wanted{Orders: []target.Order{o}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"orders":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := decodeWanted(body)
		if err != nil {
			return
		}
		for _, o := range newer(state{}, w.Orders) {
			require.True(t, dnsLabel(o.Place.Deployment) && dnsLabel(o.Place.Environment))
			if checkOrder(o) == nil && o.Active != nil {
				require.True(t, dnsLabel(o.Active.Module.Name))
				require.True(t, sha256Digest(o.Active.Module.Digest))
			}
		}
	})
}

package metric

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) // 1767355200

var paid = intent.Metric{Name: "paid", Type: intent.MetricErrors, Prometheus: intent.Prometheus{
	Source: "main", Requests: `sum(paid{node=~"{{units}}"})`, Failures: `sum(refused{node=~"{{units}}"})`,
}}

// ask reads paid, of a minute, from a server that answers so.
func ask(t *testing.T, v Vars, answers http.HandlerFunc) (analysis.MetricSeries, error) {
	t.Helper()
	server := httptest.NewServer(answers)
	defer server.Close()
	p, err := New("main", server.URL)
	require.NoError(t, err)
	return p.Read(t.Context(), paid, v, noon, noon.Add(time.Minute), 10*time.Second)
}

var arms = Vars{Changed: []string{"a"}, Others: []string{"b", "c"}}

func TestBothCountersOfBothArmsAreRead(t *testing.T) {
	got, err := ask(t, arms, func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("start") == "1767351600.000" { // the hour before
			require.Equal(t, "1767355200.000 60", r.PostFormValue("end")+" "+r.PostFormValue("step"))
			fmt.Fprint(w, matrix(`[[1767351600,"0"],[1767351660,"7"]]`))
			return
		}
		body, known := map[string]string{
			`sum(paid{node=~"(?:a)"})`:      matrix(`[[1767355200,"1"],[1767355210,"2"],[1767355220,"3"]]`),
			`sum(refused{node=~"(?:a)"})`:   matrix(`[[1767355210,"0"],[1767355220,"1"]]`),
			`sum(paid{node=~"(?:b|c)"})`:    matrix(`[[1767355200,"9"]]`),
			`sum(refused{node=~"(?:b|c)"})`: matrix(`[[1767355200,"4"],[1767355230,"5"]]`),
		}[r.PostFormValue("query")]
		if !known || r.URL.Path != "/api/v1/query_range" || r.PostFormValue("start") != "1767355200.000" || r.PostFormValue("end") != "1767355258.000" || r.PostFormValue("step") != "10" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, body)
	})
	require.NoError(t, err)
	before := []analysis.Point{{At: noon.Add(-time.Hour)}, {At: noon.Add(-time.Hour + time.Minute), Requests: 7, Failures: 7}}
	require.Equal(t, analysis.MetricSeries{
		Name: "paid", ChangedPast: before, OthersPast: before,
		Changed: []analysis.Point{
			{At: noon.Add(10 * time.Second), Requests: 2, Failures: 0},
			{At: noon.Add(20 * time.Second), Requests: 3, Failures: 1},
		},
		Others: []analysis.Point{{At: noon, Requests: 9, Failures: 4}},
	}, got, "a point is where both counters have one")
}

func TestAnArmWithoutUnitsIsNotAskedAbout(t *testing.T) {
	var asked atomic.Int64
	got, err := ask(t, Vars{Changed: []string{"a"}}, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, matrix(`[[1767355200,"1"]]`))
	})
	require.NoError(t, err)
	require.EqualValues(t, 4, asked.Load(), "two counters, now and before")
	require.Len(t, got.Changed, 1)
	require.Empty(t, got.Others)
	require.Empty(t, got.OthersPast)
}

func TestAServerThatDoesNotAnswerAsItShouldIsAnError(t *testing.T) {
	tests := map[string]struct {
		answers http.HandlerFunc
		want    error
		says    string
	}{
		"a redirect is not followed": {
			func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/api/") {
					http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
					return
				}
				fmt.Fprint(w, matrix(`[[1767355200,"1"]]`))
			}, ErrAnswer, "status 307",
		},
		"an endless answer": {
			func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := fmt.Fprint(w, strings.Repeat(" ", 1<<16)); err != nil {
						return
					}
				}
			}, ErrAnswer, "more than 1048576 bytes",
		},
		"a broken server": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, ErrAnswer, "status 503",
		},
		"a query that it does not understand": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error"}`)
			}, ErrQuery, "parse error",
		},
		"times before what was asked": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, matrix(`[[1767355199,"1"]]`)) }, ErrAnswer, "not asked about",
		},
		"times after what was asked": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, matrix(`[[1767355259,"1"]]`)) }, ErrAnswer, "not asked about",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ask(t, arms, tt.answers)
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, "metric paid from main: requests: ")
			require.ErrorContains(t, err, tt.says)
			require.Zero(t, got)
		})
	}
}

func TestASilentServerTakesHalfOfTheTimeThatIsLeft(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	p, err := New("main", server.URL)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = p.Read(ctx, paid, arms, noon, noon.Add(time.Minute), 10*time.Second)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "its caller can go on")
}

func TestTheStepGrowsWhereThereWouldBeTooManyPoints(t *testing.T) {
	tests := map[string]struct{ lasts, step, want time.Duration }{
		"half an hour":               {30 * time.Minute, 10 * time.Second, 10 * time.Second},
		"a day":                      {24 * time.Hour, 10 * time.Second, 10 * time.Second},
		"a week":                     {7 * 24 * time.Hour, 10 * time.Second, 80 * time.Second},
		"a step of nothing":          {time.Minute, 0, time.Second},
		"a step of less than a tick": {time.Minute, time.Millisecond, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWindow(noon, noon.Add(tt.lasts), tt.step)
			require.Equal(t, tt.want, w.step)
			require.LessOrEqual(t, int64(w.end.Sub(w.start)/w.step), int64(maxPoints))
		})
	}
	t.Run("a time that never was", func(t *testing.T) {
		w := newWindow(time.Time{}, noon, time.Second)
		require.LessOrEqual(t, int64(w.end.Sub(w.start)/w.step), int64(maxPoints))
	})
}

func TestNothingIsAskedBeforeThereIsSomethingSettled(t *testing.T) {
	p, err := New("main", "http://127.0.0.1:1")
	require.NoError(t, err)
	got, err := p.Read(t.Context(), paid, arms, noon, noon.Add(time.Second), 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, analysis.MetricSeries{Name: "paid"}, got)
}

func TestAnAddressThatIsNoneIsRefusedAndItsPasswordNotRepeated(t *testing.T) {
	for _, u := range []string{"", "prometheus:9090", "ftp://a", "http://", "http://:9090", "http://ann:hunter2@a", "http://a?x=hunter2", "http://a#hunter2", "http://a:hunter2/", "//a", "\x00hunter2"} {
		_, err := New("main", u)
		require.ErrorIs(t, err, ErrURL, "%q", u)
		require.NotContains(t, err.Error(), "hunter2")
	}
	p, err := New("main", "https://a.example/prom/")
	require.NoError(t, err)
	require.Equal(t, "https://a.example/prom/api/v1/query_range", p.query)
}

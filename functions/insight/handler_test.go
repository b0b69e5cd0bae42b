package insight_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions/insight"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

const token = "a-token-of-this-test"

// A base is a database with a store on it and promotions that end when they are looked at.
type base struct {
	t     *testing.T
	db    *pgtest.DB
	store *store.Store
}

func newBase(t *testing.T) *base {
	t.Helper()
	b := &base{t: t, db: pgtest.New(t)}
	writer := audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize))))
	s, err := store.Open(t.Context(), store.Options{DSN: b.db.DSN("hotswap_app"), MaxConns: 2}, writer)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	b.store = s
	b.sql("INSERT INTO environments (tenant, name, repository, document, selector, commit) VALUES ('acme', 'qa', 'deploy', '{}', '{}', 'c')")
	return b
}

// sql runs a statement as the superuser.
func (b *base) sql(statement string, args ...any) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.db.AdminDSN())
	require.NoError(b.t, err)
	defer conn.Close(b.t.Context())
	_, err = conn.Exec(b.t.Context(), statement, args...)
	require.NoError(b.t, err, statement)
}

// deploy lets restores with the given names start and succeed: of what runs nowhere, so no unit is waited for.
func (b *base) deploy(names ...string) {
	b.t.Helper()
	for _, n := range names {
		b.sql("INSERT INTO releases (tenant, id, deployment, generation, repository, commit, snapshot, digest) VALUES ('acme', $1, $1, 1, 'deploy', 'c', '{}', '')", n)
		b.sql(`INSERT INTO promotions (tenant, id, release, stage, kind, attempt, deployment, environment, generation, spec,
				status, phase, wave, version, token, plan, units, ending, reason, since, waiting_for)
			VALUES ('acme', $1, $1, 'qa', 'restore', 1, $1, 'qa', 1, '{}', 'gating', '', 0, 1, 0, '', '[]', '', '', now(), '{}')`, n)
		b.sql("INSERT INTO slots (tenant, environment, deployment) VALUES ('acme', 'qa', $1)", n)
		b.sql("INSERT INTO due (tenant, kind, id, wake_at) VALUES ('acme', 'promotion', $1, now())", n)
	}
	for range 2 * len(names) {
		claims, err := b.store.Claim(b.t.Context(), []store.Kind{store.Promotion}, 1, time.Minute)
		require.NoError(b.t, err)
		require.Len(b.t, claims, 1)
		_, err = b.store.Advance(b.t.Context(), claims[0], func(s store.Step) (promotion.Decision, error) {
			d, err := promotion.Decide(s.State, promotion.Event{Kind: promotion.Looked, Facts: s.Facts}, s.Now)
			d.Wake = s.Now
			return d, err
		})
		require.NoError(b.t, err)
	}
}

func (b *base) config() insight.Config {
	return insight.Config{Token: secret.New([]byte(token)), Read: b.store.Metrics, Now: time.Now}
}

// ask scrapes a handler with a token; "" sends none.
func ask(h http.Handler, bearer string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWhoHasNotTheTokenReadsNothing(t *testing.T) {
	read := 0
	config := insight.Config{
		Token: secret.New([]byte(token)), Now: time.Now,
		Read: func(context.Context) ([]store.Series, error) { read++; return nil, nil },
	}
	h := insight.New(config)
	for name, header := range map[string]string{
		"no header": "", "another token": "Bearer another", "no token": "Bearer ", "half of it": "Bearer " + token[:5], "more than it": "Bearer " + token + " ",
		"another scheme": "Basic " + token, "the token alone": token, "a null byte": "Bearer " + token + "\x00",
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusUnauthorized, w.Code, name)
		require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer", name)
		require.NotContains(t, w.Body.String(), token, name)
	}
	require.Zero(t, read, "and the database is not asked")
	require.Equal(t, http.StatusOK, ask(h, token).Code)
	config.Token = secret.Secret{}
	for _, sent := range []string{"", " ", token} {
		require.Equal(t, http.StatusUnauthorized, ask(insight.New(config), sent).Code, "where no token is set, nobody reads")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/metrics", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

// broken secrets cannot be listed.
type broken struct{}

func (broken) List() ([]secret.Entry, error) {
	return nil, errors.New("secret db: it was changed or cut")
}

func TestAnAnswerIsWholeOrItIsNone(t *testing.T) {
	b := newBase(t)
	good := ask(insight.New(b.config()), token)
	require.Equal(t, http.StatusOK, good.Code)
	silent := func(w *httptest.ResponseRecorder) {
		t.Helper()
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.NotContains(t, w.Body.String(), "hotswap_")
		require.NotContains(t, w.Body.String(), "relation", "the inside is kept")
	}
	config := b.config()
	config.Secrets = broken{}
	silent(ask(insight.New(config), token))

	config = b.config()
	config.Read = func(ctx context.Context) ([]store.Series, error) {
		deadline, bounded := ctx.Deadline()
		require.True(t, bounded && time.Until(deadline) < 6*time.Second, "a reading has an end")
		return []store.Series{{Name: store.Holds, Tenant: "acme"}, {Name: store.Holds, Tenant: "acme"}}, nil
	}
	silent(ask(insight.New(config), token))

	b.sql("ALTER TABLE metric_facts RENAME TO away")
	silent(ask(insight.New(b.config()), token))
	b.sql("ALTER TABLE away RENAME TO metric_facts")
	require.Equal(t, http.StatusOK, ask(insight.New(b.config()), token).Code)
	b.store.Close()
	silent(ask(insight.New(b.config()), token))
}

// full is a configuration that answers every family.
func full(b *base) insight.Config {
	b.t.Helper()
	b.deploy("d1")
	b.sql("INSERT INTO holds VALUES ('acme', 'qa', 'd', 'sha256:1', 'harm', 'advance', now())")
	b.sql("UPDATE promotions SET finished_at = NULL, status = 'running', phase = 'paused', waiting_for = '{}'")
	b.sql("INSERT INTO due (tenant, kind, id, wake_at) VALUES ('acme', 'promotion', 'late', now() - interval '1 minute')")
	local, err := secret.OpenLocal(filepath.Join(b.t.TempDir(), "local"))
	require.NoError(b.t, err)
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	_, err = local.Set("checkout/db", secret.New([]byte("hunter")), noon)
	require.NoError(b.t, err)
	_, err = local.Set("checkout/db", secret.New([]byte("hunter-2")), noon.Add(time.Hour))
	require.NoError(b.t, err)
	config := b.config()
	config.Secrets, config.Now = local, func() time.Time { return noon.Add(3 * time.Hour) }
	return config
}

func TestTheLinterOfPrometheusFindsNothing(t *testing.T) {
	body := ask(insight.New(full(newBase(t))), token).Body.Bytes()
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Regexp(t, `(?m)^hotswap_secret_age_seconds\{secret="checkout/db"\} 7200$`, string(body), "since its newest version")
	require.NotContains(t, string(body), "hunter")
	require.Regexp(t, `(?m)^hotswap_deployments_completed_total\{environment="qa",kind="restore",tenant="acme"\} 1$`, string(body))
	require.Regexp(t, `(?m)^hotswap_deployments_failed_total\{environment="qa",kind="promote",state="rollback_failed",tenant="acme"\} 0$`, string(body), "what never happened is zero")
	require.Regexp(t, `(?m)^hotswap_deployment_duration_seconds_bucket\{environment="qa",kind="restore",state="succeeded",tenant="acme",le="1"\} 1$`, string(body))
	require.Regexp(t, `(?m)^hotswap_promotions_open\{environment="qa",phase="paused",state="running",tenant="acme"\} 1$`, string(body))
	require.Regexp(t, `(?m)^hotswap_due_lag_seconds\{tenant="acme"\} [6-9][0-9]`, string(body))
}

func TestOpenMetricsIsSpokenToWhoAsksForIt(t *testing.T) {
	w := ask(insight.New(full(newBase(t))), token, "Accept", "application/openmetrics-text;version=1.0.0", "Accept-Encoding", "identity")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "application/openmetrics-text")
	require.True(t, strings.HasSuffix(w.Body.String(), "# EOF\n"))
	require.Contains(t, w.Body.String(), "# TYPE hotswap_deployments_started counter\n")
}

func TestAnAnswerIsCompressedForWhoTakesIt(t *testing.T) {
	h := insight.New(full(newBase(t)))
	plain := ask(h, token).Body.String()
	for _, accept := range []string{"gzip", "br;q=1.0, GZIP;q=0.5", "deflate,gzip ; q=0.001"} {
		w := ask(h, token, "Accept-Encoding", accept)
		require.Equal(t, "gzip", w.Header().Get("Content-Encoding"), accept)
		z, err := gzip.NewReader(w.Body)
		require.NoError(t, err, accept)
		body, err := io.ReadAll(z)
		require.NoError(t, err, accept)
		require.Len(t, strings.Split(string(body), "\n"), len(strings.Split(plain, "\n")), accept)
	}
	for _, accept := range []string{"", "identity", "br", "gzip;q=0", "gzip; q=0.000", "xgzip"} {
		w := ask(h, token, "Accept-Encoding", accept)
		require.Empty(t, w.Header().Get("Content-Encoding"), accept)
		require.Contains(t, w.Body.String(), "hotswap_holds{", accept)
	}
}

func TestALabelThatIsNotUTF8IsNoAnswer(t *testing.T) {
	config := newBase(t).config()
	config.Read = func(context.Context) ([]store.Series, error) {
		return []store.Series{{Name: store.Holds, Tenant: "a\xff", Labels: map[string]string{"environment": "qa"}}}, nil
	}
	require.Equal(t, http.StatusServiceUnavailable, ask(insight.New(config), token).Code)
}

func TestThePageOfTheMetricsListsExactlyWhatIsAnswered(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	require.NoError(t, err)
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hotswap_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = m[2] + " " + strings.ReplaceAll(strings.TrimSpace(m[3]), "`", "")
	}
	body := ask(insight.New(full(newBase(t))), token).Body.String()
	answered := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		sample := regexp.MustCompile(`(?m)^` + m[1] + `(?:_count)?\{(.*)\} `).FindStringSubmatch(body)
		require.NotNil(t, sample, m[1])
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[1], -1) {
			labels = append(labels, l[1])
		}
		answered[m[1]] = m[2] + " " + strings.Join(labels, ", ")
	}
	require.Len(t, answered, 16)
	require.Equal(t, answered, documented)
}

func TestASeriesThatThisBuildDoesNotKnowIsLeftOut(t *testing.T) {
	config := newBase(t).config()
	config.Read = func(context.Context) ([]store.Series, error) {
		return []store.Series{{Name: "deployments_dreamt", Tenant: "acme"}, {Name: store.Holds, Tenant: "acme", Value: 3, Labels: map[string]string{"environment": "qa"}}}, nil
	}
	body, err := io.ReadAll(ask(insight.New(config), token).Body)
	require.NoError(t, err)
	require.NotContains(t, string(body), "dreamt")
	require.Contains(t, string(body), `hotswap_holds{environment="qa",tenant="acme"} 3`)
}

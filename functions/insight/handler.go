// Package insight is the function that Prometheus reads. It holds no counter:
// every answer is what the database has counted, so it is the same whichever
// replica answers, and nothing is lost when one ends.
package insight

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// readTime bounds the reading for one answer. Prometheus waits 10 s if nobody told it otherwise.
const readTime = 5 * time.Second

// Config is what the function works with.
type Config struct {
	// Token is what a caller must send, the secret hotswap-metrics; zero: nobody may read.
	Token secret.Secret
	// Read tells what the database counted.
	Read func(ctx context.Context) ([]store.Series, error)
	// Secrets are those that this host keeps itself; nil: it cannot know how old they are.
	Secrets Secrets
	Now     func() time.Time // the clock that the secrets were stored by
}

// Secrets lists what secrets there are, without their values.
type Secrets interface {
	List() ([]secret.Entry, error)
}

// New returns the function's handler: GET /metrics. An answer is whole or it is
// none: what cannot be read is answered 503, because a counter that is not there
// looks like one that was reset.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !c.mayRead(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
			http.Error(w, "a bearer token is needed that is the secret hotswap-metrics", http.StatusUnauthorized)
			return
		}
		families, err := c.gather(r.Context())
		if err != nil {
			slog.ErrorContext(r.Context(), "metrics", "err", err)
			http.Error(w, "the metrics cannot be read; try again", http.StatusServiceUnavailable)
			return
		}
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
		body, err := encode(families, format)
		if err != nil {
			slog.ErrorContext(r.Context(), "metrics", "err", err)
			http.Error(w, "the metrics cannot be written down", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(format))
		w.Header().Set("Vary", "Accept, Accept-Encoding")
		if !takesGzip(r.Header) {
			_, _ = w.Write(body)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(body)
		_ = z.Close()
	})
	return mux
}

// mayRead reports whether the caller sent the token. No token, no reader.
func (c Config) mayRead(r *http.Request) bool {
	scheme, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && c.Token.Equal(secret.New([]byte(sent)))
}

// gather reads everything, before anything is answered.
func (c Config) gather(ctx context.Context) ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	series, err := c.Read(ctx)
	if err != nil {
		return nil, err
	}
	var secrets []secret.Entry
	if c.Secrets != nil {
		if secrets, err = c.Secrets.List(); err != nil {
			return nil, fmt.Errorf("age of secrets: %w", err)
		}
	}
	return collect(series, secrets, c.Now())
}

// encode writes the families in one of the formats that Prometheus reads.
func encode(families []*dto.MetricFamily, format expfmt.Format) ([]byte, error) {
	var out bytes.Buffer
	e := expfmt.NewEncoder(&out, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return nil, err
		}
	}
	if closer, has := e.(expfmt.Closer); has {
		if err := closer.Close(); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// takesGzip reports whether the caller asked for gzip, as Prometheus does (RFC 9110, 12.5.3).
func takesGzip(h http.Header) bool {
	for coding := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, weighed := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			return !weighed || strings.Trim(q, "0.") != ""
		}
	}
	return false
}

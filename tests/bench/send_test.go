package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
)

// send sends a request that was signed for a path below the base URL.
func send(b *testing.B, c *http.Client, base string, r *http.Request, body []byte, out any) {
	b.Helper()
	u, err := url.Parse(base + r.URL.Path)
	must(b, err)
	r.URL, r.Host = u, u.Host
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := c.Do(r)
	must(b, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(b, err)
	if resp.StatusCode/100 != 2 {
		b.Fatalf("%s: %s %s", u, resp.Status, answer)
	}
	if out != nil {
		must(b, json.Unmarshal(answer, out))
	}
}

package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/secret"
)

func TestNoUsualWayOfPrintingShowsTheValue(t *testing.T) {
	const canary = "canary-7f3a9c"
	holder := struct {
		Name string
		Key  secret.Secret
		Ptr  *secret.Secret
		own  secret.Secret
	}{Name: "x", Key: secret.New([]byte(canary)), own: secret.New([]byte(canary))}
	holder.Ptr = &holder.Key

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+"\n", holder.Key)
		fmt.Fprintf(&out, verb+"\n", holder)
	}
	require.NoError(t, json.NewEncoder(&out).Encode(holder))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", holder.Key, "all", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", holder.Key, "all", holder)

	require.NotContains(t, out.String(), canary)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
	require.NotContains(t, out.String(), fmt.Sprintf("%d", []byte(canary)))
	require.Contains(t, out.String(), "[redacted]")
}

func TestEqualNeedsTheSameBytesAndSomeBytes(t *testing.T) {
	a := secret.New([]byte("a"))
	require.True(t, a.Equal(secret.New([]byte("a"))))
	require.False(t, a.Equal(secret.New([]byte("b"))))
	require.False(t, secret.Secret{}.Equal(secret.Secret{}), "an unset secret equals nothing")
}

func TestTheCallersBytesAreNotKept(t *testing.T) {
	given := []byte("abc")
	s := secret.New(given)
	given[0] = 'x'
	s.Reveal()[1] = 'x'
	require.Equal(t, "abc", s.RevealString())
}

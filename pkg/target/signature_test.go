package target_test

import (
	"crypto/ed25519"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func signingKey(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, ed25519.SeedSize)))
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func TestAModuleIsTrustedOnlyAsItWasSigned(t *testing.T) {
	ours, theirs := signingKey("a"), signingKey("b")
	signed := target.Module{Name: "checkout", Version: "1.5.0", Digest: "sha256:" + strings.Repeat("0", 64), Artifact: "file:///a"}
	signature, err := target.SignModule(signed, ours)
	require.NoError(t, err)
	signed.Signature = signature

	cases := map[string]struct {
		change  func(m *target.Module)
		trusted []ed25519.PublicKey
		want    error
	}{
		"signed by the only trusted key":      {trusted: []ed25519.PublicKey{publicOf(ours)}},
		"signed by the second trusted key":    {trusted: []ed25519.PublicKey{publicOf(theirs), publicOf(ours)}},
		"moved to another place":              {change: func(m *target.Module) { m.Artifact, m.Size = "https://b", 7 }, trusted: []ed25519.PublicKey{publicOf(ours)}},
		"another name":                        {change: func(m *target.Module) { m.Name = "billing" }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
		"another version":                     {change: func(m *target.Module) { m.Version = "1.4.0" }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
		"another digest":                      {change: func(m *target.Module) { m.Digest = "sha256:1" }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
		"signed by somebody else":             {trusted: []ed25519.PublicKey{publicOf(theirs)}, want: target.ErrSignature},
		"nobody is trusted":                   {want: target.ErrSignature},
		"a trusted key of the wrong length":   {trusted: []ed25519.PublicKey{{1, 2}}, want: target.ErrSignature},
		"not signed":                          {change: func(m *target.Module) { m.Signature = "" }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrUnsigned},
		"another scheme":                      {change: func(m *target.Module) { m.Signature = "rsa:" + m.Signature[8:] }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
		"cut short":                           {change: func(m *target.Module) { m.Signature = m.Signature[:20] }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
		"a line feed slipped into the base64": {change: func(m *target.Module) { m.Signature = m.Signature[:20] + "\n" + m.Signature[20:] }, trusted: []ed25519.PublicKey{publicOf(ours)}, want: target.ErrSignature},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := signed
			if c.change != nil {
				c.change(&m)
			}
			require.ErrorIs(t, target.VerifyModule(m, c.trusted), c.want)
		})
	}
}

// The vector pins the signed bytes: a change of them makes every signature that
// exists invalid.
func TestTheSignatureOfAModuleNeverChanges(t *testing.T) {
	got, err := target.SignModule(target.Module{Name: "checkout", Version: "1.5.0", Digest: "sha256:00"}, signingKey("a"))
	require.NoError(t, err)
	require.Equal(t, "ed25519:t7kAzNnTCsDGVZ73FAQ2OyEfzPzht4HCSqwyzY6D8024E44nKYuajuWAd7zsHF+FykTgav/u5fTfMvpDXDdDBg==", got)
}

func TestKeysSurviveTheirFiles(t *testing.T) {
	a, b := signingKey("a"), signingKey("b")
	private, err := target.MarshalPrivateKey(a)
	require.NoError(t, err)
	got, err := target.ParsePrivateKey(private)
	require.NoError(t, err)
	require.True(t, a.Equal(got))

	first, err := target.MarshalPublicKey(publicOf(a))
	require.NoError(t, err)
	second, err := target.MarshalPublicKey(publicOf(b))
	require.NoError(t, err)
	keys, err := target.ParsePublicKeys(append(append([]byte("# release team\n"), first...), second...))
	require.NoError(t, err)
	require.Equal(t, []ed25519.PublicKey{publicOf(a), publicOf(b)}, keys)
}

func TestAFileThatIsNotAKeyIsRefusedWithoutShowingIt(t *testing.T) {
	private, err := target.MarshalPrivateKey(signingKey("a"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty":                 "",
		"no PEM":                "topsecret",
		"a private key instead": string(private),
		"broken DER":            string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("topsecret")})),
	} {
		_, err := target.ParsePublicKeys([]byte(text))
		require.ErrorIs(t, err, target.ErrKeyFormat, name)
		require.NotContains(t, err.Error(), "topsecret")
	}
	_, err = target.ParsePrivateKey([]byte("topsecret"))
	require.ErrorIs(t, err, target.ErrKeyFormat)
	require.NotContains(t, err.Error(), "topsecret")
}

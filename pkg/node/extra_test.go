package node

import (
	"crypto/sha256"
)

func digestOfBytes(b []byte) string {
	h := sha256.New()
	h.Write(b)
	return digestOf(h)
}

// Package attack tries every known way around a review gate, on every forge: each case
// closes a gate that the same world opens when people do what they should.
package attack

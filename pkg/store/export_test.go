package store

// StepQueries are what a step of a promotion ($1, $2) reads, by name.
var StepQueries = map[string]string{
	"promotion":  promotionQuery,
	"slot":       slotQuery,
	"context":    contextQuery,
	"checks":     checksQuery,
	"load":       loadQuery,
	"selected":   selectedQuery,
	"candidates": candidatesQuery,
	"observed":   observedQuery,
	"review":     reviewQuery,
	"effect":     effectQuery,
	"samples":    samplesQuery,
}

// DriftQueries are what a look at a slot ($1, $2, $3) reads.
var DriftQueries = map[string]string{"slot": driftSlotQuery, "residents": residentsQuery}

// What pokes others: the slot ($1, $2, $3) but for $4; who waits in $2 but for $3; who holds
// the slots ($1, $2[i], $3[i]); the slots of the node $2 that drifted.
var (
	PokeSlot    = pokeSlot
	PokeWaiting = pokeWaiting
	PokeHolders = pokeHolders
	PokeDrift   = pokeDrift
)

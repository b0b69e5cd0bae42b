package promotion

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatMovedInAPlanIsNamed(t *testing.T) {
	was := &PlanParts{Environment: "e", Policy: "p", Units: "u"}
	for want, now := range map[string]PlanParts{
		"the environment was changed":                            {Environment: "e2", Policy: "p", Units: "u"},
		"the policy was changed":                                 {Environment: "e", Policy: "p2", Units: "u"},
		"the policy is gone":                                     {Environment: "e", Units: "u"},
		"the set of units changed":                               {Environment: "e", Policy: "p"},
		"the environment was changed and the policy was changed": {Environment: "e2", Policy: "p2", Units: "u"},
	} {
		require.Equal(t, want, was.moved(&now))
	}
	require.Contains(t, (*PlanParts)(nil).moved(was), "or")
}

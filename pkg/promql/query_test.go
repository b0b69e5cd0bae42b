package promql

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var vars = Vars{Deployment: "checkout", Environment: "production", Version: "1.5.0"}

func TestAQueryNamesTheUnitsOfOneArm(t *testing.T) {
	tests := map[string]struct{ query, want string }{
		"names are alternatives":                        {`sum(x{node=~"{{units}}"})`, `sum(x{node=~"(?:node-1|node-2)"})`},
		"spaces do not matter":                          {`x{node =~ '{{ units }}'}`, `x{node =~ '(?:node-1|node-2)'}`},
		"a port may follow":                             {`x{instance=~"{{units}}:9100"}`, `x{instance=~"(?:node-1|node-2):9100"}`},
		"between backticks":                             {"x{node=~`{{units}}`}", "x{node=~`(?:node-1|node-2)`}"},
		"in the argument of a function":                 {`label_replace(x, "a", "$1", "b", "({{units}})")`, `label_replace(x, "a", "$1", "b", "((?:node-1|node-2))")`},
		"a version is taken as it is spelled":           {`x{v="{{version}}",n!~"{{units}}"}`, `x{v="1.5.0",n!~"(?:node-1|node-2)"}`},
		"in a regular expression, too":                  {`x{v=~"{{version}}",n=~"{{units}}"}`, `x{v=~"1\\.5\\.0",n=~"(?:node-1|node-2)"}`},
		"a name in a regular expression in backticks":   {"x{v!~`{{version}}`,n=~\"{{units}}\"}", "x{v!~`1\\.5\\.0`,n=~\"(?:node-1|node-2)\"}"},
		"deployment and environment":                    {`x{d="{{deployment}}-{{environment}}",n=~"{{units}}"}`, `x{d="checkout-production",n=~"(?:node-1|node-2)"}`},
		"a comment stays, its quotes open nothing":      {"x{n=~\"{{units}}\"} # isn't {{this}}\n + 0", "x{n=~\"(?:node-1|node-2)\"} # isn't {{this}}\n + 0"},
		"a quote in a string, escaped, does not end it": {`x{a="\"#'",n=~"{{units}}"}`, `x{a="\"#'",n=~"(?:node-1|node-2)"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Expand(tt.query, []string{"node-1", "node-2"}, vars)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestAQueryThatCannotBeAskedIsRefused(t *testing.T) {
	tests := map[string]struct{ query, says string }{
		"empty":                                  {``, "does not say {{units}}"},
		"both arms would read the same":          {`sum(x{v="{{version}}"})`, "both arms would read the same"},
		"units in a comment only":                {"sum(x) # {{units}}", "both arms would read the same"},
		"units that are not a pattern":           {`x{node="{{units}}"}`, "write =~ instead of ="},
		"units that are not a pattern, negative": {`x{node!="{{units}}"}`, "write =~ instead of !="},
		"a placeholder outside of quotes":        {`x{node=~{{units}}}`, "{{units}} does not stand in quotes"},
		"a placeholder that is not known":        {`x{node=~"{{units}}",a="{{tenant}}"}`, "{{tenant}} is not known"},
		"a string without an end":                {`x{node=~"{{units}}\"`, "a string does not end"},
		"a quote alone":                          {`x{node=~"{{units}}"}'`, "a string does not end"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Expand(tt.query, []string{"node-1"}, vars)
			require.ErrorIs(t, err, ErrQuery)
			require.ErrorContains(t, err, tt.says)
		})
	}
	t.Run("names that no quotes can hold", func(t *testing.T) {
		for query, unit := range map[string]string{
			"x{n=~`{{units}}`}":     "a`b",
			`x{n=~"{{units}}"}`:     "a\nb",
			`x{n=~"{{units}}",m=""`: "a\xffb",
		} {
			_, err := Expand(query, []string{unit}, vars)
			require.ErrorIs(t, err, ErrQuery, "%q", unit)
		}
	})
	t.Run("longer than a server should read", func(t *testing.T) {
		_, err := Expand(`x{n=~"{{units}}"}`, []string{strings.Repeat("a", maxQuery)}, vars)
		require.ErrorIs(t, err, ErrQuery)
	})
}

// FuzzWhatANameStandsForStaysInItsQuotes reads back with Go's own rules, which are
// PromQL's for "…" and `…`, what was written, and asks the pattern whom it matches.
func FuzzWhatANameStandsForStaysInItsQuotes(f *testing.F) {
	for _, s := range []string{"node-1", `"`, `'`, `\`, `\"`, `a"} or vector(1) #`, "{{units}}", "{{version}}", "$1", ".*", "|", "(", "ü", "\\Q\\E"} {
		f.Add(s, "1.5.0")
		f.Add("node-1", s)
	}
	f.Fuzz(func(t *testing.T, unit, version string) {
		for _, q := range []string{`"`, `'`, "`"} {
			before, between, after := "x{n=~"+q, q+",v="+q, q+"}"
			got, err := Expand(before+"{{units}}"+between+"{{version}}"+after, []string{unit, "other"}, Vars{Version: version})
			if err != nil {
				require.ErrorIs(t, err, ErrQuery)
				continue
			}
			rest := strings.TrimPrefix(got, "x{n=~")
			first, _ := tokenLen(rest)
			second := strings.TrimPrefix(rest[first:], ",v=")
			end, _ := tokenLen(second)
			require.Equal(t, "}", second[end:])
			pattern, err := regexp.Compile("^(?:" + unquote(t, rest[:first]) + ")$")
			require.NoError(t, err)
			require.True(t, pattern.MatchString(unit))
			require.Equal(t, unit == "other2", pattern.MatchString("other2"))
			require.Equal(t, version, unquote(t, second[:end]))
		}
	})
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	if s[0] == '\'' { // Go has no such strings: write it as one with the other quotes
		s = `"` + strings.NewReplacer(`\'`, `'`, `\\`, `\\`, `"`, `\"`).Replace(s[1:len(s)-1]) + `"`
	}
	out, err := strconv.Unquote(s)
	require.NoError(t, err, s)
	return out
}

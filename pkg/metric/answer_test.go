package metric

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// matrix returns an answer with one series of values.
func matrix(values string) string {
	return `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":` + values + `}]}}`
}

func TestAnAnswerIsOneSeriesOrNothing(t *testing.T) {
	got, err := decode([]byte(matrix(`[[1767355200,"1"],[1767355210.25,"2.5e3"],[1767355220,"NaN"],[1767355230,"+Inf"]]`)))
	require.NoError(t, err)
	require.Len(t, got, 4)
	require.Equal(t, value{time.Date(2026, 1, 2, 12, 0, 10, 250_000_000, time.UTC), 2500}, got[1])
	require.True(t, math.IsNaN(got[2].n), "what is no number stays none")
	require.True(t, math.IsInf(got[3].n, 1))

	got, err = decode([]byte(`{"status":"success","data":{"resultType":"matrix","result":[]}}`))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestAnAnswerThatCannotBeCountedWithIsRefused(t *testing.T) {
	tests := map[string]struct{ body, says string }{
		"nothing":                        {``, "unexpected end"},
		"a page":                         {`<html>`, "invalid character"},
		"null":                           {`null`, `status ""`},
		"an error":                       {`{"status":"error","error":"no\nluck"}`, `status "error": no\nluck`},
		"a warning":                      {`{"status":"success","warnings":["store-2 did not answer"],"data":{"resultType":"matrix","result":[]}}`, "store-2 did not answer"},
		"no matrix":                      {`{"status":"success","data":{"resultType":"scalar","result":[]}}`, `a "scalar", not a matrix`},
		"no data":                        {`{"status":"success"}`, `a "", not a matrix`},
		"two series":                     {`{"status":"success","data":{"resultType":"matrix","result":[{},{}]}}`, "2 series where one is needed"},
		"a histogram":                    {`{"status":"success","data":{"resultType":"matrix","result":[{"histograms":[[1,{}]]}]}}`, "a histogram"},
		"a value of one part":            {matrix(`[[1]]`), "1 parts"},
		"a value of three parts":         {matrix(`[[1,"1","1"]]`), "3 parts"},
		"a value without a time":         {matrix(`[[null,"1"]]`), "without a time"},
		"a value without a number":       {matrix(`[[1,null]]`), "without a time and a number"},
		"a number without quotes":        {matrix(`[[1,1]]`), "cannot unmarshal number"},
		"a word":                         {matrix(`[[1,"many"]]`), "invalid syntax"},
		"a number beyond all":            {matrix(`[[1,"1e999"]]`), "out of range"},
		"a time beyond all":              {matrix(`[[1e300,"1"]]`), "without a time"},
		"a time twice":                   {matrix(`[[1,"1"],[1,"2"]]`), "times do not rise"},
		"a time that is no later, in ms": {matrix(`[[1,"1"],[1.0001,"2"]]`), "times do not rise"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := decode([]byte(tt.body))
			require.ErrorIs(t, err, ErrAnswer)
			require.ErrorContains(t, err, tt.says)
			require.Empty(t, got)
		})
	}
}

func TestWhatAServerSaysIsOneShortLine(t *testing.T) {
	_, err := decode([]byte(`{"status":"error","error":"` + strings.Repeat("x", 5000) + `"}`))
	require.Less(t, len(err.Error()), 400)
	require.Equal(t, `a\nb\x1b[1m`, short("a\nb\x1b[1m"))
}

func FuzzAnAnswerIsDecodedOrRefused(f *testing.F) {
	f.Add([]byte(matrix(`[[1,"1"],[2,"NaN"]]`)))
	f.Add([]byte(matrix(`[[1,"1"],[1,"2"]]`)))
	f.Add([]byte(matrix(`[null]`)))
	f.Add([]byte(`{"status":"success","warnings":["x"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := decode(body)
		if err != nil {
			if !errors.Is(err, ErrAnswer) || len(values) > 0 {
				t.Fatalf("%d values with %v", len(values), err)
			}
			return
		}
		if !rising(values) {
			t.Fatal("its times do not rise")
		}
		if points := join(values, values); len(points) != len(values) {
			t.Fatalf("%d points of %d values", len(points), len(values))
		}
	})
}

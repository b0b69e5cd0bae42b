package metric

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// answer is what a server says to a query over a range, see
// https://prometheus.io/docs/prometheus/latest/querying/api/.
type answer struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"` // of a server that could not ask everybody, for one
	Data      struct {
		ResultType string   `json:"resultType"`
		Result     []series `json:"result"`
	} `json:"data"`
}

type series struct {
	Values     []value           `json:"values"`
	Histograms []json.RawMessage `json:"histograms"`
}

// A value is one reading: [seconds, "number"] in JSON.
type value struct {
	at time.Time // to the millisecond
	n  float64   // may be NaN or infinite
}

// UnmarshalJSON reads a pair of exactly a time and a number in quotes.
func (v *value) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a value of %d parts", len(pair))
	}
	var seconds *float64
	var number *string
	if err := json.Unmarshal(pair[0], &seconds); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[1], &number); err != nil {
		return err
	}
	if seconds == nil || number == nil || math.Abs(*seconds) > 1e11 {
		return fmt.Errorf("a value without a time and a number")
	}
	n, err := strconv.ParseFloat(*number, 64)
	if err != nil {
		return err
	}
	*v = value{at: time.UnixMilli(int64(math.Round(*seconds * 1000))).UTC(), n: n}
	return nil
}

// decode reads an answer to a query over a range: one series of values whose times
// rise, or nothing.
func decode(body []byte) ([]value, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	switch one := a.Data.Result; {
	case a.Status != "success":
		return nil, fmt.Errorf("%w: status %q: %s", ErrAnswer, short(a.Status), short(a.Error))
	case len(a.Warnings) > 0:
		return nil, fmt.Errorf("%w: the server warns: %s", ErrAnswer, short(a.Warnings[0]))
	case a.Data.ResultType != "matrix":
		return nil, fmt.Errorf("%w: a %q, not a matrix", ErrAnswer, short(a.Data.ResultType))
	case len(one) == 0:
		return nil, nil
	case len(one) > 1:
		return nil, fmt.Errorf("%w: %d series where one is needed; wrap the query in sum(…)", ErrAnswer, len(one))
	case len(one[0].Histograms) > 0:
		return nil, fmt.Errorf("%w: a histogram, not numbers; take its histogram_count(…)", ErrAnswer)
	}
	values := a.Data.Result[0].Values
	if !rising(values) {
		return nil, fmt.Errorf("%w: its times do not rise", ErrAnswer)
	}
	return values, nil
}

// rising reports whether each time is later than the one before.
func rising(values []value) bool {
	for i := 1; i < len(values); i++ {
		if !values[i].at.After(values[i-1].at) {
			return false
		}
	}
	return true
}

// short returns what a server said, fit for a line of a log.
func short(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// complaint returns what a server says of a query that it refuses.
func complaint(body []byte) string {
	var a answer
	if json.Unmarshal(body, &a) != nil || a.Error == "" {
		return "nothing that can be read"
	}
	return a.Error
}

// Package counted tells where what was counted is not what the transitions tell.
// The counters are written step by step, by promotion.Counts; the migration that made
// their tables counts the past by a rule of its own, in SQL. Each is the other's oracle.
package counted

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Past is the migration's statement that counts what is in the database already.
func Past() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pkg/store/migrations/00015_metrics.sql"))
	_, past, begins := strings.Cut(string(text), "-- begin of what was counted before\n")
	past, _, ends := strings.Cut(past, "-- end of what was counted before\n")
	if err == nil && !(begins && ends) {
		err = errors.New("the migration does not say where its statement is")
	}
	return past, err
}

// Differences is a query for the superuser: a line for each number that was not counted
// as the transitions tell it. It holds as long as no promotion was deleted.
func Differences() (string, error) {
	past, err := Past()
	with, _, _ := strings.Cut(past, "INSERT INTO metric_totals")
	return fmt.Sprintf(`%s, told AS (
		SELECT tenant, name, labels, sum(value)::bigint AS value FROM counted GROUP BY 1, 2, 3
	), kept AS (
		SELECT tenant, name, labels, sum(value)::bigint AS value FROM (
			SELECT tenant, name, labels, value FROM metric_totals UNION ALL SELECT tenant, name, labels, value FROM metric_facts) m GROUP BY 1, 2, 3
	)
	SELECT format('%%s %%s %%s: counted %%s, the transitions tell %%s', tenant, name, labels, kept.value, told.value)
	FROM told FULL JOIN kept USING (tenant, name, labels) WHERE told.value IS DISTINCT FROM kept.value`, strings.TrimRight(with, "\n")), err
}

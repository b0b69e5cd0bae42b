// Sam checks each resource of a template of AWS SAM against the published schema. It reads
// the template as JSON, its functions resolved, and prints one line for each problem.
//
// It is a module of its own: the schema comes with a library whose dependencies the product
// does without.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/awslabs/goformation/v7/schema"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	log.SetFlags(0)
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	found, err := problems(text)
	if err != nil {
		log.Fatal("sam: ", err)
	}
	for _, p := range found {
		fmt.Println(p)
	}
}

func problems(text []byte) ([]string, error) {
	var template struct {
		Resources map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &template); err != nil {
		return nil, err
	}
	if len(template.Resources) == 0 {
		return nil, fmt.Errorf("the template has no resources")
	}
	all, err := definitions()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(template.Resources)) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(template.Resources[name]))
		if err != nil {
			return nil, err
		}
		m, _ := v.(map[string]any)
		delete(m, "Condition") // it decides whether there is a resource, and is no part of one
		kind, _ := m["Type"].(string)
		if all[kind] == nil {
			out = append(out, fmt.Sprintf("%s: the schema knows no type %q", name, kind))
			continue
		}
		s, err := compiled(all, kind)
		if err != nil {
			return nil, err
		}
		if err := s.Validate(v); err != nil {
			out = append(out, fmt.Sprintf("%s: %s", name, strings.ReplaceAll(err.Error(), "\n", " ")))
		}
	}
	return out, nil
}

// definitions are the schema's, by name.
func definitions() (map[string]any, error) {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.SamSchema))
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	all, _ := m["definitions"].(map[string]any)
	return all, nil
}

// compiled is the schema of one type, with what it refers to: all 7000 take half a minute.
func compiled(all map[string]any, kind string) (*jsonschema.Schema, error) {
	used := map[string]any{}
	follow(all, all[kind], used)
	used[kind] = all[kind]
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem://sam.json", map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": used}); err != nil {
		return nil, err
	}
	return c.Compile("mem://sam.json#/definitions/" + kind)
}

// follow adds the definitions that v refers to.
func follow(all map[string]any, v any, used map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, "#/definitions/")
			if _, seen := used[name]; !seen {
				used[name] = all[name]
				follow(all, all[name], used)
			}
		}
		for _, w := range v {
			follow(all, w, used)
		}
	case []any:
		for _, w := range v {
			follow(all, w, used)
		}
	}
}

package config

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteSchema writes the JSON Schema (draft 2020-12) of the file, for editors.
func WriteSchema(w io.Writer) error { return writeSchema(w, root(), "certbound configuration") }

// WriteGatewaySchema writes the JSON Schema of the file of the gateway.
func WriteGatewaySchema(w io.Writer) error {
	return writeSchema(w, gatewayRoot(), "certbound gateway configuration")
}

func writeSchema(w io.Writer, root *field, title string) error {
	s := root.schema()
	for i := range s {
		if s[i].name == "type" {
			s[i].value = "object" // not null, as a section may be
		}
	}
	top := orderedObject{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", title},
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(append(top, s...))
}

// An orderedObject is a JSON object whose members keep their order.
type orderedObject []member

type member struct {
	name  string
	value any
}

func (o orderedObject) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// elsewhere is the form of a value that is not text by itself.
var elsewhere = orderedObject{{"type", "string"}, {"pattern", "^(env|file):."}}

func (f *field) schema() orderedObject {
	var s orderedObject
	add := func(name string, value any) { s = append(s, member{name, value}) }
	if f.doc != "" {
		add("description", f.doc)
	}
	orElsewhere := func(o orderedObject) { add("anyOf", []orderedObject{o, elsewhere}) }
	switch f.kind {
	case kindSection:
		add("type", []string{"object", "null"})
		add("additionalProperties", false)
		var props orderedObject
		required := []string{}
		for _, c := range f.children {
			props = append(props, member{c.name, c.schema()})
			if c.required {
				required = append(required, c.name)
			}
		}
		add("properties", props)
		if len(required) > 0 {
			add("required", required)
		}
	case kindList:
		add("type", "array")
		if f.required {
			add("minItems", 1)
		} else {
			s[len(s)-1].value = []string{"array", "null"}
		}
		item := f.elem.schema()
		if f.elem.kind == kindSection { // an element is never null
			for i := range item {
				if item[i].name == "type" {
					item[i].value = "object"
				}
			}
		}
		add("items", item)
	case kindInt:
		orElsewhere(orderedObject{{"type", "integer"}, {"minimum", 0}})
	case kindBool:
		orElsewhere(orderedObject{{"type", "boolean"}})
	case kindJSON:
		orElsewhere(orderedObject{{"type", "object"}})
	case kindDuration:
		orElsewhere(orderedObject{{"type", "string"}, {"pattern", durationPattern}})
	default:
		if len(f.enum) > 0 {
			orElsewhere(orderedObject{{"enum", f.enum}})
		} else {
			add("type", "string")
		}
	}
	if f.hasDef {
		add("default", f.defaultValue())
	}
	if f.example != "" {
		add("examples", []any{f.exampleValue()})
	}
	return s
}

const durationPattern = `^[0-9]+d$|^([0-9]+d)?([0-9]+(\.[0-9]+)?(h|m|s|ms))+$`

func (f *field) defaultValue() any { return f.tagValue(f.def) }
func (f *field) exampleValue() any { return f.tagValue(f.example) }

func (f *field) tagValue(text string) any {
	switch f.kind {
	case kindInt:
		n, err := strconv.Atoi(text)
		if err != nil {
			panic(fmt.Sprintf("config: %s: default %q is not a number", f.name, text))
		}
		return n
	case kindBool:
		return text == "true"
	case kindList:
		return append([]string{}, splitList(text)...)
	}
	return text
}

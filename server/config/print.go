package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// WriteResolved writes what is in force, as YAML: each value after env:, file: and
// defaults, with a comment where it does not come from the file itself. Secrets are
// replaced by a word.
func (f *document) WriteResolved(w io.Writer) error {
	p := &printer{file: f}
	p.section("", "", f.top, f.value)
	_, err := io.WriteString(w, p.out.String())
	return err
}

type printer struct {
	file *document
	out  strings.Builder
}

func (p *printer) section(indent, path string, f *field, v reflect.Value) {
	for _, c := range f.children {
		p.field(indent, join(path, c.name), c, v.Field(c.index))
	}
}

func (p *printer) field(indent, path string, f *field, v reflect.Value) {
	p.out.WriteString(indent + f.name + ":")
	switch {
	case f.kind == kindSection:
		p.out.WriteByte('\n')
		p.section(indent+"  ", path, f, v)
		return
	case f.kind == kindList && f.elem.kind == kindSection && v.Len() > 0:
		p.out.WriteByte('\n')
		for i := range v.Len() {
			item := &printer{file: p.file}
			item.section(indent+"    ", fmt.Sprintf("%s[%d]", path, i), f.elem, v.Index(i))
			text := item.out.String()
			p.out.WriteString(indent + "  - " + strings.TrimPrefix(text, indent+"    "))
		}
		return
	}
	origin := p.file.origins[path]
	if _, given := p.file.places[path]; v.IsZero() && origin == "" && !given {
		p.out.WriteString("  # not set\n")
		return
	}
	p.out.WriteString(" " + p.scalar(f, v))
	if origin != "" {
		p.out.WriteString("  # " + origin)
	}
	p.out.WriteByte('\n')
}

func (p *printer) scalar(f *field, v reflect.Value) string {
	switch f.kind {
	case kindList:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = p.scalar(f.elem, v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case kindPath:
		return quoteIfNeeded(p.file.Path(Path(v.String())))
	case kindSecret:
		if v.String() == "" {
			return `""`
		}
		return "(set, not shown)"
	case kindDuration:
		return Duration(v.Int()).String()
	case kindInt:
		return fmt.Sprint(v.Int())
	case kindBool:
		return fmt.Sprint(v.Bool())
	case kindJSON:
		if v.Len() == 0 {
			return "{}"
		}
		var b bytes.Buffer
		if json.Compact(&b, v.Bytes()) != nil {
			return "{}"
		}
		return b.String()
	}
	return quoteIfNeeded(v.String())
}

// Resolved returns what is in force as a tree for JSON, without secrets.
func (f *document) Resolved() any {
	return f.tree(f.top, f.value)
}

func (f *document) tree(c *field, v reflect.Value) any {
	switch c.kind {
	case kindSection:
		var o orderedObject
		for _, child := range c.children {
			o = append(o, member{child.name, f.tree(child, v.Field(child.index))})
		}
		return o
	case kindList:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = f.tree(c.elem, v.Index(i))
		}
		return list
	case kindPath:
		return f.Path(Path(v.String()))
	case kindSecret:
		return v.String() != ""
	case kindDuration:
		return Duration(v.Int()).String()
	case kindJSON:
		if v.Len() == 0 {
			return nil
		}
		return json.RawMessage(v.Bytes())
	}
	return v.Interface()
}

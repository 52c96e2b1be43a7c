package config

import (
	"embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"sync"
)

// The documentation is the doc comments of the structs: the source is its own data.
//
//go:embed config.go people.go registration.go gateway.go
var sources embed.FS

// A kind is what a field holds.
type kind uint8

const (
	kindString kind = iota
	kindPath
	kindSecret
	kindDuration
	kindInt
	kindBool
	kindJSON
	kindSection // a struct
	kindList    // of Elem
)

// A field is one key of the file.
type field struct {
	name     string // as in the file
	doc      string
	kind     kind
	elem     *field   // of a list
	children []*field // of a section
	index    int      // in the struct
	typ      reflect.Type
	def      string // default, as text; lists separate with commas
	hasDef   bool
	example  string
	enum     []string
	required bool
}

// root and gatewayRoot return the trees of all fields of the two kinds of files.
var (
	root        = sync.OnceValue(func() *field { return section(reflect.TypeFor[Config](), sourceDocs()) })
	gatewayRoot = sync.OnceValue(func() *field { return section(reflect.TypeFor[Gateway](), sourceDocs()) })
)

func section(t reflect.Type, docs map[string]string) *field {
	f := &field{kind: kindSection, typ: t, doc: docs[t.Name()]}
	for i := range t.NumField() {
		sf := t.Field(i)
		c := fieldOf(sf.Type, docs)
		c.name, c.index = sf.Tag.Get("yaml"), i
		if doc := docs[t.Name()+"."+sf.Name]; doc != "" {
			c.doc = doc
		}
		c.def, c.hasDef = sf.Tag.Lookup("default")
		c.example = sf.Tag.Get("example")
		c.required = sf.Tag.Get("required") == "yes"
		if e := sf.Tag.Get("enum"); e != "" {
			c.enum = strings.Split(e, ",")
			if c.elem != nil {
				c.elem.enum = c.enum
			}
		}
		f.children = append(f.children, c)
	}
	return f
}

func fieldOf(t reflect.Type, docs map[string]string) *field {
	switch t {
	case reflect.TypeFor[Path]():
		return &field{kind: kindPath, typ: t}
	case reflect.TypeFor[Secret]():
		return &field{kind: kindSecret, typ: t}
	case reflect.TypeFor[Duration]():
		return &field{kind: kindDuration, typ: t}
	case reflect.TypeFor[json.RawMessage]():
		return &field{kind: kindJSON, typ: t}
	}
	switch t.Kind() {
	case reflect.String:
		return &field{kind: kindString, typ: t}
	case reflect.Int:
		return &field{kind: kindInt, typ: t}
	case reflect.Bool:
		return &field{kind: kindBool, typ: t}
	case reflect.Struct:
		return section(t, docs)
	case reflect.Slice:
		return &field{kind: kindList, typ: t, elem: fieldOf(t.Elem(), docs)}
	}
	panic("config: a field of type " + t.String() + " has no form in the file")
}

// sourceDocs returns the doc comments by "Type" and "Type.Field".
var sourceDocs = sync.OnceValue(func() map[string]string {
	docs := make(map[string]string)
	for _, name := range []string{"config.go", "people.go", "registration.go", "gateway.go"} {
		text, err := sources.ReadFile(name)
		if err != nil {
			panic("config: " + err.Error()) // it is embedded
		}
		readDocs(name, string(text), docs)
	}
	return docs
})

func readDocs(name, source string, docs map[string]string) {
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		panic("config: " + err.Error()) // the compiler has read the same text
	}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts := spec.(*ast.TypeSpec)
			docs[ts.Name.Name] = oneLine(gen.Doc.Text())
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					docs[ts.Name.Name+"."+name.Name] = oneLine(f.Doc.Text())
				}
			}
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (f *field) child(name string) *field {
	for _, c := range f.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// typeText names what a value has to be, in words.
func (f *field) typeText() string {
	switch f.kind {
	case kindPath:
		return "path"
	case kindSecret:
		return "secret"
	case kindDuration:
		return "duration"
	case kindInt:
		return "number"
	case kindBool:
		return "true or false"
	case kindJSON:
		return "JSON object"
	case kindSection:
		return "section"
	case kindList:
		return "list of " + map[kind]string{kindSection: "sections", kindPath: "paths"}[f.elem.kind] +
			map[bool]string{true: "texts"}[f.elem.kind == kindString]
	}
	return "text"
}

package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
)

// A document is a file of one kind, decoded, with the places of its keys.
type document struct {
	// Name is the file as it was named, Dir the folder that relative paths count from.
	Name, Dir string
	places    map[string]place
	origins   map[string]string // key → where its value came from
	top       *field            // the keys of this kind of file
	value     reflect.Value     // of the struct that they go into
}

type place struct{ line, column int }

// parse reads text into the struct that config points to. rules is asked for what no
// single key can know.
func (f *document) parse(name string, data []byte, top *field, config any, lookupEnv func(string) (string, bool), rules func() []Fault) error {
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	*f = document{Name: name, Dir: dir, places: map[string]place{}, origins: map[string]string{}, top: top, value: reflect.ValueOf(config).Elem()}
	d := &decoder{doc: f, lookupEnv: lookupEnv}
	d.decode(data)
	for _, fault := range rules() {
		if !d.shadows(fault.Path) {
			d.faults = append(d.faults, fault)
		}
	}
	if len(d.faults) > 0 {
		sortFaults(d.faults)
		return &Error{d.faults}
	}
	return nil
}

// fault returns what is wrong with a key, with its place.
func (f *document) fault(path, fix, format string, args ...any) Fault {
	p := f.place(path)
	return Fault{File: f.Name, Line: p.line, Column: p.column, Path: path, Text: fmt.Sprintf(format, args...), Fix: fix}
}

// Path returns p as seen from where the program was started: a relative path counts
// from the folder of the configuration file. The empty path stays empty.
func (f *document) Path(p Path) string {
	if p == "" || filepath.IsAbs(string(p)) {
		return string(p)
	}
	return filepath.Join(f.Dir, string(p))
}

// Paths is Path for a list.
func (f *document) Paths(list []Path) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = f.Path(p)
	}
	return out
}

// place returns where the key stands, or the nearest key above it.
func (f *document) place(path string) place {
	for path != "" {
		if p, ok := f.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return place{}
}

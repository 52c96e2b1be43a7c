package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

type objectMember struct {
	name  string
	value json.RawMessage
}

// objectMembers splits a JSON object. It refuses members that stand twice, which
// encoding/json would overwrite silently.
func objectMembers(data []byte) ([]objectMember, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("expected a JSON object")
	}
	var out []objectMember
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("not valid JSON")
		}
		m := objectMember{name: t.(string)} // the decoder allows nothing else here
		if seen[m.name] {
			return nil, errors.New("a member stands twice")
		}
		seen[m.name] = true
		if err := dec.Decode(&m.value); err != nil {
			return nil, errors.New("not valid JSON")
		}
		out = append(out, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not valid JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the object")
	}
	return out, nil
}

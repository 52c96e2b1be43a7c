// Command kubernetes reads manifests on its standard input and holds them to the types of
// Kubernetes: a field that a type does not have is a fault, as is one with a wrong value. It
// is a module of its own, since nothing else needs these types.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	for i, doc := range bytes.Split(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
		var into any
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 ConfigMap":
			into = new(corev1.ConfigMap)
		case "v1 Service":
			into = new(corev1.Service)
		case "apps/v1 Deployment":
			into = new(appsv1.Deployment)
		default:
			return fmt.Errorf("document %d: expected a ConfigMap, Service or Deployment, found %q %q", i+1, kind.APIVersion, kind.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			return fmt.Errorf("document %d, %s: %w", i+1, kind.Kind, err)
		}
		fmt.Fprintln(out, kind.Kind)
	}
	return nil
}

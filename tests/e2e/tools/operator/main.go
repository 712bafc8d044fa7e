// Command operator is a small operator as people write them with controller-runtime: of several copies one leads.
//
// For each ConfigMap with the label vm-of=operator it keeps a virtual machine of the same name, whose memory is in the
// ConfigMap's data; it writes the machine's status back there, and into a Service and a Secret beside it, and deletes
// all of it by a finalizer. It goes by kubeconfig ($KUBECONFIG), serves nothing, and says on its standard output what
// it did.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientevents "k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const (
	label     = "vm-of"
	finalizer = "operator.example.org/machine"
)

var machines = schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachine"}

func machine() *unstructured.Unstructured {
	vm := &unstructured.Unstructured{}
	vm.SetGroupVersionKind(machines)
	return vm
}

type reconciler struct {
	client.Client
	events clientevents.EventRecorder
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var wish corev1.ConfigMap
	if err := r.Get(ctx, request.NamespacedName, &wish); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !wish.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.remove(ctx, &wish)
	}
	if controllerutil.AddFinalizer(&wish, finalizer) {
		if err := r.Update(ctx, &wish); err != nil {
			return ctrl.Result{}, err
		}
	}
	vm := machine()
	vm.SetName(wish.Name)
	vm.SetNamespace(wish.Namespace)
	done, err := controllerutil.CreateOrUpdate(ctx, r.Client, vm, func() error {
		for path, value := range map[string]any{"runStrategy": wish.Data["runStrategy"]} {
			if err := unstructured.SetNestedField(vm.Object, value, "spec", path); err != nil {
				return err
			}
		}
		in := []string{"spec", "template", "spec", "domain"}
		if err := unstructured.SetNestedMap(vm.Object, map[string]any{}, append(in, "devices")...); err != nil {
			return err
		}
		if err := unstructured.SetNestedField(vm.Object, wish.Data["memory"], append(in, "memory", "guest")...); err != nil {
			return err
		}
		return controllerutil.SetControllerReference(&wish, vm, r.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if done != controllerutil.OperationResultNone {
		r.events.Eventf(&wish, nil, corev1.EventTypeNormal, "Kept", "Keep", "machine %s is %s", vm.GetName(), done)
		fmt.Println("machine", vm.GetName(), done)
	}
	if err := r.accompany(ctx, &wish); err != nil {
		return ctrl.Result{}, err
	}
	status, _, _ := unstructured.NestedString(vm.Object, "status", "printableStatus")
	if wish.Annotations["status"] != status {
		before := wish.DeepCopy()
		metav1.SetMetaDataAnnotation(&wish.ObjectMeta, "status", status)
		if err := r.Patch(ctx, &wish, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, err
		}
		fmt.Println("status of", wish.Name, status)
	}
	return ctrl.Result{}, nil
}

// accompany keeps a Service and a Secret beside the machine, by typed objects, whose bodies are protobuf.
func (r *reconciler) accompany(ctx context.Context, wish *corev1.ConfigMap) error {
	meta := metav1.ObjectMeta{Name: wish.Name, Namespace: wish.Namespace}
	service := &corev1.Service{ObjectMeta: meta}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, service, func() error {
		service.Spec.Selector = map[string]string{"vm.kubevirt.io/name": wish.Name}
		service.Spec.Ports = []corev1.ServicePort{{Name: "ssh", Port: 22, TargetPort: intstr.FromInt32(22)}}
		return controllerutil.SetControllerReference(wish, service, r.Scheme())
	}); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	secret := &corev1.Secret{ObjectMeta: meta}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, secret, func() error {
		secret.Data = map[string][]byte{"userdata": []byte("#cloud-config\n")}
		return controllerutil.SetControllerReference(wish, secret, r.Scheme())
	}); err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	return nil
}

func (r *reconciler) remove(ctx context.Context, wish *corev1.ConfigMap) error {
	vm := machine()
	vm.SetName(wish.Name)
	vm.SetNamespace(wish.Namespace)
	if err := r.Delete(ctx, vm); err != nil && !errors.IsNotFound(err) {
		return err
	} else if err == nil {
		return nil // its going brings this ConfigMap here again
	}
	if controllerutil.RemoveFinalizer(wish, finalizer) {
		fmt.Println("machine", wish.Name, "removed")
		return r.Update(ctx, wish)
	}
	return nil
}

func run() error {
	name := flag.String("name", "operator", "name of the Lease")
	opts := zap.Options{}
	opts.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&opts)))
	lease, renew, retry := 6*time.Second, 4*time.Second, time.Second
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Metrics:                       server.Options{BindAddress: "0"},
		HealthProbeBindAddress:        "0",
		LeaderElection:                true,
		LeaderElectionID:              *name,
		LeaderElectionNamespace:       "default",
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
	})
	if err != nil {
		return err
	}
	ours, err := predicate.LabelSelectorPredicate(metav1.LabelSelector{MatchLabels: map[string]string{label: "operator"}})
	if err != nil {
		return err
	}
	one := &reconciler{manager.GetClient(), manager.GetEventRecorder("operator")}
	err = ctrl.NewControllerManagedBy(manager).
		For(&corev1.ConfigMap{}, builder.WithPredicates(ours)).
		Owns(machine()).
		Owns(&corev1.Service{}).
		Owns(&corev1.Secret{}).
		Named("machines").
		Complete(one)
	if err != nil {
		return err
	}
	go func() {
		<-manager.Elected()
		fmt.Println("leading")
	}()
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

{{- define "strata.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the release's objects: the release's, when that says strata already. */}}
{{- define "strata.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "strata.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "strata.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "strata.selector" -}}
app.kubernetes.io/name: {{ include "strata.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "strata.labels" -}}
{{ include "strata.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "strata.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "strata.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A whole reference of an image: (dict "image" VALUES "tag" DEFAULT); one whose values have a tag needs no default. */}}
{{- define "strata.reference" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "strata.image" -}}
{{- $repository := required "image.repository is missing: push the image to a registry that the nodes reach (`make image` builds it) and say --set image.repository=HOST/NAME" .Values.image.repository -}}
{{- include "strata.reference" (dict "image" .Values.image "tag" .Chart.AppVersion) -}}
{{- end -}}

{{- define "strata.socketDir" -}}
{{- printf "%s/plugins/%s" .Values.kubeletDir .Values.driverName -}}
{{- end -}}

{{/* What every container of the plugin's binary is told of its node. */}}
{{- define "strata.env" -}}
- name: CSI_ENDPOINT
  value: unix://{{ include "strata.socketDir" . }}/csi.sock
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end -}}

{{- define "strata.hasClass" -}}
{{- if and .Values.provisioner.enabled .Values.storageClass.create }}true{{ end -}}
{{- end -}}

{{/* What the schema can't say, because it is about two values at once. */}}
{{- define "strata.check" -}}
{{- $paths := dict "kubeletDir" .Values.kubeletDir "pool.path" .Values.pool.path "runDir" .Values.runDir -}}
{{- range $one, $path := $paths -}}
{{- range $other, $above := $paths -}}
{{- if and (ne $one $other) (hasPrefix (printf "%s/" $above) (printf "%s/" $path)) -}}
{{- fail (printf "%s (%s) lies in %s (%s): they must be apart" $one $path $other $above) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $store := .Values.additionalImageStores -}}
{{- range $name, $path := $paths -}}
{{- if or (hasPrefix (printf "%s/" $path) (printf "%s/" $store)) (hasPrefix (printf "%s/" $store) (printf "%s/" $path)) -}}
{{- fail (printf "additionalImageStores (%s) and %s (%s) lie in each other: they must be apart" $store $name $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $socket := printf "%s/plugins_registry/%s-reg.sock" .Values.kubeletDir .Values.driverName -}}
{{- if gt (len $socket) 107 -}}
{{- fail (printf "the socket %s has %d bytes, and the kernel allows 107: choose a shorter kubeletDir or driverName" $socket (len $socket)) -}}
{{- end -}}
{{- $secret := .Values.storageClass.pullSecret -}}
{{- if ne (empty $secret.name) (empty $secret.namespace) -}}
{{- fail "storageClass.pullSecret: give both its name and its namespace, or neither" -}}
{{- end -}}
{{- $parameters := .Values.storageClass.parameters -}}
{{- $always := eq "true" (toString $parameters.pullAlways) -}}
{{- if and (hasKey $parameters "pullAlways") $parameters.pullPolicy (ne $always (eq "Always" $parameters.pullPolicy)) -}}
{{- fail "storageClass.parameters: pullAlways and pullPolicy contradict each other" -}}
{{- end -}}
{{- if and (not .Values.storageClass.image) (or $always $parameters.pullPolicy $parameters.platform) -}}
{{- fail "storageClass.parameters: pullPolicy, pullAlways and platform say how storageClass.image is pulled, which is missing" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: say in serviceAccount.name which account is used; the namespace's default would give its rights to every pod there that names none" -}}
{{- end -}}
{{- end -}}
